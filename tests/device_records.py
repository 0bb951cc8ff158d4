"""Records as agents of each release have written them: `python -m tests.device_records` adds this release's.

Run it once for each release, when its version is set; what stands in the file already is never changed.
"""

import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from device_agent import __version__
from device_agent.core.est import EstServer
from device_agent.core.ladder import Rung, Standing
from device_agent.core.lifecycle import state_of
from device_agent.core.record import Pending
from device_agent.core.stored import StoredRecord, decode, encode, nowhere
from device_agent.wire.objects import ObjectHashes
from tests.device import Table

GOLDEN = Path(__file__).parent / "vectors/device_records.json"
_HASHES = ObjectHashes(chain=b"1" * 32, anchors=b"2" * 32, configuration=b"3" * 32)


def samples(enrolled: StoredRecord) -> dict[str, StoredRecord]:
    """Return a record for each thing that an agent keeps, from one that a real enrollment has left."""
    life, active = enrolled.life, enrolled.life.active
    assert active is not None
    key_only = Pending(key="k-next", key_hash="b" * 64, attempt=life.attempt + 1)
    issued = replace(key_only, credential=replace(active, key="k-next", key_hash="b" * 64))
    since = datetime(2026, 5, 1, tzinfo=UTC)
    begun = replace(enrolled, life=replace(life, pending=key_only, attempt=key_only.attempt), csr=b"csr")
    by_est = replace(life, active=replace(active, broker=nowhere(active.broker.name)))
    server = EstServer(host="est.example", port=8443, label="plant", certificate="/a", key="/b")
    return {
        "blank": StoredRecord(),
        "enrolled": enrolled,
        "renewing": begun,
        "confirming": replace(begun, life=replace(begun.life, pending=issued)),
        "by a station": replace(enrolled, bootstrap=None, active_hashes=_HASHES),
        "recovering": replace(enrolled, standing=Standing(rung=Rung.CODE, since=since, why="not-current")),
        "by EST": replace(enrolled, life=by_est, est=server),
    }


def shown(record: StoredRecord) -> dict[str, object]:
    """Return what every later agent must still find in a record."""
    active, pending = record.life.active, record.life.pending
    return {
        "state": state_of(record.life).value,
        "device_id": record.device_id,
        "domain": record.domain,
        "fleet": record.fleet,
        "keys": sorted(record.keys),
        "attempt": record.life.attempt,
        "serial": None if active is None else active.serial,
        "pending": None if pending is None else pending.key,
        "anchors": [anchor.fingerprint for anchor in (*record.life.anchors, *record.servers)],
    }


def golden() -> dict[str, dict[str, dict[str, object]]]:
    """Return the records of all releases: release, name, `text` and what is `shown`."""
    found: dict[str, dict[str, dict[str, object]]] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    return found


def _enrolled() -> StoredRecord:
    with tempfile.TemporaryDirectory() as folder:
        table = Table(folder=Path(folder))
        asyncio.run(table.enroll())
        return decode((table.state / "record").read_bytes())


def main() -> int:
    releases = golden()
    if __version__ in releases:
        print(f"error: the records of {__version__} are there already, and stay as they are", file=sys.stderr)
        return 6
    releases[__version__] = {
        name: {"text": encode(record).decode(), "shown": shown(record)}
        for name, record in samples(_enrolled()).items()
    }
    GOLDEN.write_text(json.dumps(releases, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
