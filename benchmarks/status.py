"""How fast certificate status is told: a list of a million entries, and OCSP answers a second.

Method. Lists: a real home, whose store is given a million revocations of one issuing CA, each with the
entry that a revocation encodes; then the complete list with its delta, and one part, are made as the status
listener makes them: read from the database file, joined, signed, verified; three times, and the middle one
is printed. Beside it a task wakes every millisecond, to see how long the event loop was held up. Then
OpenSSL parses the list and checks its signature. OCSP: `fleet serve` in a process of its own, with the
listener that relying parties meet; clients over loopback on kept connections, a thousand certificates in
turn. First each is asked about once (read and signed), then again and again by GET (kept answers), then by
POST with a nonce (read and signed each time). Counted are answers in a second of the clock, and in a second
of the server's CPU time (user and system, from /proc); the clients are another process, and share the
machine.

Run: python -m benchmarks.status [--entries 1000000] [--seconds 5]
"""

import argparse
import asyncio
import base64
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path

from fleet import config
from fleet.ca.issuer import Issuer
from fleet.core.partition import shard_of
from fleet.core.revocation import encode_entry
from fleet.model import Purpose, RevocationReason
from fleet.ports import Store, Transaction, Value
from fleet.ra.crls import CrlBook, ListName, list_of
from fleet.ra.status.press import Press
from fleet.ra.status.public_lists import current_list
from fleet.store import times
from fleet.store.sqlite import open_store
from tests.homes import FleetHome, make_home
from tests.live import PLAN, configure
from tests.status import ocsp_request

LIST_GOAL_SECONDS = 1.0
OCSP_GOAL = 5000
CERTIFICATES = 1000
CONNECTIONS = 32
_AT_ONCE = 50_000
_NOW = datetime.now(UTC).replace(microsecond=0)
_REASONS = (RevocationReason.SUPERSEDED, RevocationReason.KEY_COMPROMISE, RevocationReason.UNSPECIFIED)


# --- lists -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Filling:
    """Rows for one table."""

    sql: str
    rows: Sequence[tuple[Value, ...]]


async def insert(tx: Transaction, filling: Filling) -> None:
    await tx.execute_many(filling.sql, filling.rows)


def revocations(issuer: str, count: int) -> Iterator[tuple[Value, ...]]:
    """Yield revocations as they come to be in a year of a large fleet, the oldest first."""
    ends = times.text(_NOW + timedelta(days=60))
    for number, reason in zip(range(count), cycle(_REASONS), strict=False):
        at = _NOW - timedelta(seconds=30) * (count - number) / 1000
        serial = f"41{number // 1000:06x}{os.urandom(12).hex()}"
        entry = encode_entry(serial, at, reason)
        yield issuer, serial, times.text(at), reason.value, 0, ends, entry, shard_of(serial)


async def fill(store: Store, issuer: str, count: int) -> None:
    sql = (
        "INSERT INTO revocations (issuer, serial, revoked_at, reason, for_cause, not_after, entry, shard)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    )
    rows = revocations(issuer, count)
    while part := list(islice(rows, _AT_ONCE)):
        await store.write(insert, Filling(sql=sql, rows=part))


async def longest_hold_up() -> AsyncIterator[float]:
    """Yield, each millisecond, the longest time so far that this task was kept from running, in ms."""
    longest, before = 0.0, time.perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, before = max(longest, (now - before) * 1000), now
        yield longest


async def measure_lists(home: FleetHome, entries: int, folder: Path) -> bool:
    issuer = home.authority.issuer(Purpose.DEVICE, "prod")
    async with open_store(home.home.database) as store:
        started = time.perf_counter()
        await fill(store, issuer.issuer_id, entries)
        say(f"{entries:,} revocations on record in {time.perf_counter() - started:.0f} s")
        press = Press(
            store=store,
            authority=home.authority,
            config=config.load(home.home.config),
            status_url="http://localhost:8080",
        )
        name = ListName(issuer=issuer.issuer_id)
        print("| list                 | entries | octets     | made in, s | loop held up, ms |")
        print("|----------------------|---------|------------|------------|------------------|")
        seconds, der = await measure(press, name, "complete and delta")
        await measure(press, list_of(issuer.issuer_id, "41" + "7" * 30), "one part of 128")
    check_with_openssl(der, issuer, folder)
    return verdict(f"the complete list in under {LIST_GOAL_SECONDS:g} s", seconds < LIST_GOAL_SECONDS)


async def measure(press: Press, name: ListName, label: str) -> tuple[float, bytes]:
    """Make a list three times, print the middle one, and return its seconds and its DER."""
    found = []
    for _ in range(3):
        held_up = [0.0]
        watching = asyncio.ensure_future(watch(held_up))
        started = time.perf_counter()
        crl = await current_list(press, CrlBook(), name, now=_NOW)
        found.append((time.perf_counter() - started, held_up[0], crl.der))
        watching.cancel()
    seconds, held_up_ms, der = sorted(found)[1]
    count = entries_in(der)
    print(f"| {label:<20} | {count:>7,} | {len(der):>10,} | {seconds:>10.2f} | {held_up_ms:>16.0f} |")
    return seconds, der


async def watch(held_up: list[float]) -> None:
    async for longest in longest_hold_up():
        held_up[0] = longest


def entries_in(der: bytes) -> int:
    from cryptography import x509  # noqa: PLC0415 - after the measurement

    return len(x509.load_der_x509_crl(der))


def check_with_openssl(der: bytes, issuer: Issuer, folder: Path) -> None:
    """Let OpenSSL parse the list and verify its signature."""
    crl, ca = folder / "complete.crl", folder / "ca.pem"
    crl.write_bytes(der)
    ca.write_text(issuer.chain_pem)
    started = time.perf_counter()
    command: list[str | Path] = ["openssl", "crl", "-inform", "DER", "-in", crl, "-noout", "-CAfile", ca]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (checked.stderr or checked.stdout).strip().splitlines()
    print(f"\nopenssl crl: {said[-1] if said else 'nothing'}, in {time.perf_counter() - started:.1f} s\n")


# --- OCSP --------------------------------------------------------------------------------------------


def certificates(issuer: str) -> Iterator[tuple[Value, ...]]:
    at, ends = times.text(_NOW), times.text(_NOW + timedelta(days=60))
    for number in range(CERTIFICATES):
        serial = f"42{number:030x}"
        yield serial, "device", f"prod:b{number}", serial, "superseded", issuer, serial, ends, at, at


async def put_on_record(home: FleetHome, issuer: str) -> None:
    sql = (
        "INSERT INTO certificates (serial, purpose, name, key_hash, state, issuer, fingerprint, not_after,"
        " created_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    async with open_store(home.home.database) as store:
        await store.write(insert, Filling(sql=sql, rows=list(certificates(issuer))))


@asynccontextmanager
async def served(home: FleetHome) -> AsyncIterator[tuple[int, int]]:
    """Run `fleet serve`; yield its process id and the port of the status listener."""
    configure(home.home.config, driver="embedded")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from fleet.cli import main; main()", "--home", str(home.home.root), "serve"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        while b"ready" not in (line := await process.stdout.readline()):
            if not line:
                raise SystemExit("fleet serve did not start")
        yield process.pid, port_of(home)
    finally:
        process.terminate()
        await process.wait()


def port_of(home: FleetHome) -> int:
    import json  # noqa: PLC0415 - for one line

    return int(json.loads(home.home.endpoints.read_text())["http"]["port"])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def get(request: bytes) -> bytes:
    path = base64.b64encode(request).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"GET /ocsp/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(request: bytes) -> bytes:
    head = f"POST /ocsp HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(request)}\r\n\r\n"
    return head.encode() + request


class Load:
    """Clients that ask as fast as they are answered, until the time is over or each question was asked."""

    def __init__(self, port: int, questions: Sequence[bytes]) -> None:
        self._port = port
        self._questions = questions
        self.answered = 0

    async def once(self) -> None:
        """Ask each question once."""
        shares = [self._questions[place::CONNECTIONS] for place in range(CONNECTIONS)]
        await asyncio.gather(*(self._ask(iter(share), until=float("inf")) for share in shares))

    async def during(self, seconds: float) -> None:
        """Ask all questions in turn for a while."""
        until = time.perf_counter() + seconds
        starts = range(0, len(self._questions), max(1, len(self._questions) // CONNECTIONS))
        turns = [cycle([*self._questions[start:], *self._questions[:start]]) for start in starts]
        await asyncio.gather(*(self._ask(turn, until=until) for turn in turns))

    async def _ask(self, questions: Iterator[bytes], *, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for question in questions:
            if time.perf_counter() >= until:
                break
            writer.write(question)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the server answered {head[:80]!r}")
            start = head.index(b"Content-Length: ") + 16
            await reader.readexactly(int(head[start : head.index(b"\r", start)]))
            self.answered += 1
        writer.close()


async def measure_ocsp(home: FleetHome, seconds: float) -> bool:
    issuer = home.authority.issuer(Purpose.DEVICE, "prod")
    await put_on_record(home, issuer.issuer_id)
    serials = [f"42{number:030x}" for number in range(CERTIFICATES)]
    asked = [ocsp_request(issuer, serial) for serial in serials]
    with_nonce = [ocsp_request(issuer, serial, nonce=os.urandom(32)) for serial in serials]
    print("| OCSP                     | answers | a second | a second of CPU |")
    print("|--------------------------|---------|----------|-----------------|")
    async with served(home) as (pid, port):
        await timed(pid, "GET, each asked once", load := Load(port, [*map(get, asked)]), load.once())
        kept = Load(port, [*map(get, asked)])
        rate = await timed(pid, "GET, kept answers", kept, kept.during(seconds))
        fresh = Load(port, [*map(post, with_nonce)])
        await timed(pid, "POST with a nonce", fresh, fresh.during(seconds))
    return verdict(f"{OCSP_GOAL:,} kept answers in a second of CPU", rate >= OCSP_GOAL)


async def timed(pid: int, label: str, load: Load, work: object) -> float:
    """Run a load, print what came of it, and return the answers in a second of the server's CPU time."""
    assert asyncio.iscoroutine(work)
    before, started = cpu_seconds(pid), time.perf_counter()
    await work
    took, used = time.perf_counter() - started, cpu_seconds(pid) - before
    rate = load.answered / used
    print(f"| {label:<24} | {load.answered:>7,} | {load.answered / took:>8,.0f} | {rate:>15,.0f} |")
    return rate


def verdict(goal: str, kept: bool) -> bool:
    print(f"\ngoal: {goal}: {'kept' if kept else 'missed'}\n")
    return kept


def say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description="Lists of a million entries, and OCSP answers a second.")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    say(__doc__ or "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = make_home(folder / "home", plan=PLAN)
        kept = [asyncio.run(measure_ocsp(home, arguments.seconds))]
        kept.append(asyncio.run(measure_lists(home, arguments.entries, folder)))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
