"""What a search over a large fleet costs: a page of a list for each usual query, and for some others.

Method. A database file on this machine's disk with as many devices as are asked for, each with a certificate
and an attribute, made by plain SQL: batches of 20,000, ids and ends of certificates that lie together as
those of a factory do, 2 % expired, 0.02 % suspended, one tag on the last 20,000 ids and one on every
thousandth. Each query is asked for a page of 100 three times, as the API asks it; printed are the fastest
time, the number of rows, and how many devices fit in all. The last queries are those that read the fleet.

Run: python -m benchmarks.search [--devices 1000000]
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.core.query_text import parse_query
from fleet.ports import Store
from fleet.store.inventory import DeviceQuery, count_devices, list_devices
from fleet.store.sqlite import create_store, open_store
from fleet.store.times import text

_NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
_BATCH = 20_000
_QUERIES = (
    "all",
    "id=line-0700123",
    "id=line-07001*",
    "domain=prod id=line-09*",
    "batch=b1",
    "tag=late",
    "tag=late or tag=outdoor",
    "tag=late and standing=suspended",
    "group=pilot",
    "owner=acme",
    "model=TX",
    "attr.site=s299",
    "attr.site=s299 owner=acme",
    "standing=suspended",
    "standing=expired",
    "standing=retired",
    "expires<1h",
    "expires<30d",
    "enrolled<1d",
    "seen>80d",
    "not standing=active",
    # These read the fleet.
    "version=9.*",
    "profile=none",
    "standing=registered",
)
_DEVICE = (
    "INSERT INTO devices (domain, device_id, kind, batch, current_serial, suspended, registered_at,"
    " last_seen_at, owner, model) VALUES ('prod', ?, 'agent', ?, ?, ?, ?, ?, ?, ?)"
)
_CERTIFICATE = (
    "INSERT INTO certificates (serial, purpose, name, domain, device_id, key_hash, state, profile, issuer,"
    " fingerprint, not_after, created_at, changed_at)"
    " VALUES (?, 'device', ?, 'prod', ?, 'k', ?, 'sensor', 'ab', ?, ?, ?, ?)"
)
_TAG = "INSERT INTO device_tags (tag, domain, device_id) VALUES (?, 'prod', ?)"
_MEMBER = "INSERT INTO group_members (name, domain, device_id) VALUES ('pilot', 'prod', ?)"
_ATTRIBUTE = "INSERT INTO device_attributes VALUES ('prod', ?, 'site', ?, 'operator:ada')"


def fill(database: sqlite3.Connection, count: int) -> None:
    """Make a fleet."""
    database.executemany(
        "INSERT INTO batches (domain, name, created_at) VALUES ('prod', ?, ?)",
        [(f"b{number}", text(_NOW)) for number in range(count // _BATCH + 1)],
    )
    database.execute("INSERT INTO device_groups (name, made_at) VALUES ('pilot', ?)", (text(_NOW),))
    ids = [f"line-{number:07}" for number in range(count)]
    database.executemany(_DEVICE, _devices(ids))
    database.executemany(_CERTIFICATE, _certificates(ids))
    database.executemany(_TAG, [("late", name) for name in ids[-_BATCH:]])
    database.executemany(_TAG, [("outdoor", name) for name in ids[::1000]])
    database.executemany(_MEMBER, [(name,) for name in ids[::10_000]])
    database.executemany(_ATTRIBUTE, ((name, f"s{number % 300}") for number, name in enumerate(ids)))
    database.commit()


def _devices(ids: list[str]) -> Iterator[tuple[str | int, ...]]:
    for number, name in enumerate(ids):
        seen = text(_NOW - timedelta(hours=number * 7919 % 2000))
        owner, model = "acme" if number % 100 == 0 else "", "TX" if number % 2 else ""
        suspended, batch = int(number % 5000 == 0), f"b{number // _BATCH}"
        yield name, batch, _serial(number), suspended, text(_NOW - timedelta(days=90)), seen, owner, model


def _certificates(ids: list[str]) -> Iterator[tuple[str, ...]]:
    made = text(_NOW - timedelta(days=60))
    for number, name in enumerate(ids):
        is_over = number % 50 == 7
        ends = timedelta(days=-3) if is_over else timedelta(days=90) * number / len(ids)
        state = "expired-grace" if is_over else "active"
        yield _serial(number), f"prod:{name}", name, state, _serial(number), text(_NOW + ends), made, made


def _serial(number: int) -> str:
    return f"40{number:030x}"


async def measure(store: Store) -> None:
    """Print what each query costs."""
    for query in _QUERIES:
        asked = DeviceQuery(condition=parse_query(query).condition, now=_NOW)
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            rows = await store.read(list_devices, asked)
            times.append(time.perf_counter() - begun)
        found = await store.read(count_devices, asked)
        print(f"{query:<34} {min(times) * 1000:8.1f} ms  {len(rows):4} rows of {found:9,}", flush=True)


async def run(count: int) -> None:
    """Make the fleet, and search it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.db"
        async with create_store(path):
            pass
        with sqlite3.connect(path) as database:
            fill(database, count)
        async with open_store(path) as store:
            await measure(store)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=1_000_000)
    asyncio.run(run(parser.parse_args().devices))
