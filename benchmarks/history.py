"""What the connection history costs: noting a contact, and keeping it.

Method. Notes: contacts of many devices are put into memory as the observer of a broker does it, one call
each; printed is the time of one. Keeping: the same contacts are resolved, gathered and written as the
service does it, to a database file on this machine's disk, once as rows that are new and once as repeats of
them; printed are contacts in a second of the clock. Beside it a task wakes every millisecond: how long it
was held up at most is what a request would have waited for.

Run: python -m benchmarks.history [--contacts 20000]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.core.history import Contact, contact
from fleet.model import BrokerEventKind
from fleet.ports import Store
from fleet.ra.history import History, flush
from fleet.store.sqlite import create_store

_NOW = datetime.now(UTC).replace(microsecond=0)


def contacts(count: int, *, at: datetime) -> list[Contact]:
    """Make contacts of as many devices."""
    return [
        contact(
            kind=BrokerEventKind.CONNECTED,
            place="mosquitto",
            at=at,
            name=f"prod:d{number}",
            issuer="1" * 40,
            serial=f"40{number:030x}",
            address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        )
        for number in range(count)
    ]


def noted(history: History, some: Sequence[Contact]) -> float:
    """Note contacts; return the seconds that one took."""
    begun = time.perf_counter()
    for one in some:
        history.note(one)
    return (time.perf_counter() - begun) / len(some)


async def kept(store: Store, history: History) -> tuple[float, float]:
    """Keep what waits; return its seconds, and for how long the loop was held up at most."""
    held, last = 0.0, time.perf_counter()

    async def wake() -> None:
        nonlocal held, last
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            held, last = max(held, now - last), now

    waking, begun = asyncio.ensure_future(wake()), time.perf_counter()
    await flush(store, history)
    seconds = time.perf_counter() - begun
    waking.cancel()
    return seconds, held


async def measure(count: int) -> None:
    """Print what it costs."""
    with tempfile.TemporaryDirectory() as folder:
        async with create_store(Path(folder) / "fleet.db") as store:
            history = History()
            for what, later in (("new rows", timedelta()), ("repeats", timedelta(minutes=1))):
                one = noted(history, contacts(count, at=_NOW + later))
                seconds, held = await kept(store, history)
                print(
                    f"{what:<9} noted in {one * 1e6:.1f} µs each, {count / seconds:,.0f} kept a second,"
                    f" the loop held up {held * 1000:.0f} ms at most"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contacts", type=int, default=20_000)
    asyncio.run(measure(parser.parse_args().contacts))
