"""The tables of a station's ledger, and its rows as records. Runs inside the writer's transactions."""

import sqlite3
from collections.abc import Sequence

from device_agent.wire.problems import ProblemCode
from fleet.core.station_recall import given_text, parse_given
from fleet.errors import RefusedError, StoreError
from fleet.model import KeyOrigin
from fleet.station.keeping.life import LIFE, UnitEvent, UnitState
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Generation, Unit, csr_hash_of

_MOST = 1000
_VERSION_1 = """
CREATE TABLE units (
    hardware_id TEXT PRIMARY KEY,
    device_id   TEXT UNIQUE,
    model       TEXT NOT NULL,
    doubt       TEXT,
    found_at    TEXT NOT NULL
);
CREATE TABLE generations (
    hardware_id   TEXT NOT NULL REFERENCES units (hardware_id),
    number        INTEGER NOT NULL,
    state         TEXT NOT NULL,
    csr           BLOB NOT NULL,
    csr_hash      TEXT NOT NULL,
    serial        TEXT,
    fingerprint   TEXT,
    chain         BLOB,
    anchors       BLOB,
    configuration BLOB,
    changed_at    TEXT NOT NULL,
    PRIMARY KEY (hardware_id, number),
    UNIQUE (hardware_id, csr_hash)
);
CREATE INDEX generations_by_state ON generations (state);
CREATE TABLE numbers (
    prefix TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
)
"""
_VERSION_2 = """
ALTER TABLE units ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE units ADD COLUMN batch TEXT NOT NULL DEFAULT '';
ALTER TABLE generations ADD COLUMN key_origin TEXT NOT NULL DEFAULT 'device';
CREATE TABLE journal (
    number    INTEGER PRIMARY KEY,
    entry     BLOB NOT NULL,
    signature BLOB NOT NULL,
    hash      TEXT NOT NULL
);
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
);
CREATE TABLE leases (
    lease       TEXT PRIMARY KEY,
    signed      BLOB NOT NULL,
    next_number INTEGER NOT NULL
)
"""
_VERSION_3 = """
ALTER TABLE units ADD COLUMN rework INTEGER NOT NULL DEFAULT 0;
CREATE INDEX generations_by_request ON generations (csr_hash)
"""
_VERSION_4 = """
ALTER TABLE units ADD COLUMN prefix TEXT NOT NULL DEFAULT '';
ALTER TABLE units ADD COLUMN former TEXT NOT NULL DEFAULT '';
ALTER TABLE generations ADD COLUMN given TEXT NOT NULL DEFAULT '';
ALTER TABLE generations ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE generations SET used = 1 WHERE state IN ('committed', 'labelled', 'synced', 'revoked')
"""
_SCHEMA = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
"""What each version adds to the one before."""
_GENERATIONS = (
    "SELECT number, state, csr, csr_hash, key_origin, serial, chain, anchors, configuration, given, used"
    " FROM generations WHERE hardware_id = ? ORDER BY number"
)


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or add those that a file of an earlier version lacks.

    Raises:
        StoreError: the file is of a later version of this program.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(_SCHEMA):
        raise StoreError(f"the ledger is of version {version}, this program writes {len(_SCHEMA)}")
    for addition in _SCHEMA[version:]:
        for statement in addition.split(";"):
            db.execute(statement)
    if version < len(_SCHEMA):
        db.execute(f"PRAGMA user_version = {len(_SCHEMA)}")


def load_unit(db: sqlite3.Connection, hardware_id: str) -> Unit | None:
    """Return a unit with its generations, or None where it was never here."""
    row = db.execute(
        "SELECT device_id, model, doubt, batch, rework, prefix, former FROM units WHERE hardware_id = ?",
        (hardware_id,),
    ).fetchone()
    if row is None:
        return None
    rows = db.execute(_GENERATIONS, (hardware_id,))
    device_id, model, doubt, batch, rework, prefix, former = row
    return Unit(
        hardware_id=hardware_id,
        device_id=None if device_id is None else str(device_id),
        model=str(model),
        doubt=None if doubt is None else str(doubt),
        generations=tuple(_generation(one) for one in rows.fetchall()),
        batch=str(batch),
        rework=bool(rework),
        prefix=str(prefix),
        former=str(former),
    )


def insert_request(db: sqlite3.Connection, hardware_id: str, csr: bytes, *, key: KeyOrigin, at: str) -> None:
    """Keep a CSR as a unit's next generation; raises `RefusedError` where another unit has shown it."""
    other = db.execute(
        "SELECT hardware_id FROM generations WHERE csr_hash = ? AND hardware_id <> ?",
        (csr_hash_of(csr), hardware_id),
    ).fetchone()
    if other is not None:
        raise RefusedError(f"unit {other[0]} has the same key", code=ProblemCode.KEY_IN_USE)
    db.execute(
        "INSERT INTO generations (hardware_id, number, state, csr, csr_hash, key_origin, changed_at)"
        " SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ?, ?, ? FROM generations"
        " WHERE hardware_id = ? ON CONFLICT (hardware_id, csr_hash) DO NOTHING",
        (hardware_id, UnitState.RESERVED, csr, csr_hash_of(csr), key.value, at, hardware_id),
    )


def insert_adopted(
    db: sqlite3.Connection, hardware_id: str, package: Package, *, state: UnitState, at: str
) -> None:
    """Keep what another station made as a unit's next generation, unless it is there."""
    unit = load_unit(db, hardware_id)
    if unit is None or unit.with_fingerprint(package.fingerprint):
        return
    number = unit.generations[-1].number + 1 if unit.generations else 1
    db.execute(
        "INSERT INTO generations (hardware_id, number, state, csr, csr_hash, used, changed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (hardware_id, number, state, b"", f"of {package.serial}", state is UnitState.SYNCED, at),
    )
    keep_package(db, hardware_id, number, package)


def move(
    db: sqlite3.Connection, hardware_id: str, generation: Generation, event: UnitEvent, *, at: str
) -> None:
    """Move a generation on. Raises `RefusedError` where its life has no such step."""
    after = LIFE.get((generation.state, event))
    if after is None:
        raise RefusedError(f"unit {hardware_id} is {generation.state} and cannot be {event}")
    db.execute(
        "UPDATE generations SET state = ?, used = max(used, ?), changed_at = ?"
        " WHERE hardware_id = ? AND number = ?",
        (after, after is UnitState.COMMITTED, at, hardware_id, generation.number),
    )


def keep_package(db: sqlite3.Connection, hardware_id: str, number: int, package: Package) -> None:
    """Put what was issued beside the request that it answers."""
    db.execute(
        "UPDATE generations SET serial = ?, fingerprint = ?, chain = ?, anchors = ?, configuration = ?,"
        " given = ? WHERE hardware_id = ? AND number = ?",
        (
            *(package.serial, package.fingerprint.hex(), package.chain, package.anchors),
            *(package.configuration, given_text(package.given) if package.given else ""),
            *(hardware_id, number),
        ),
    )


def _generation(row: Sequence[object]) -> Generation:
    match row:
        case (
            int(number),
            str(state),
            bytes(csr),
            str(csr_hash),
            str(key),
            str() | None as serial,
            bytes() | None as chain,
            bytes() | None as anchors,
            bytes() | None as configuration,
            str(given),
            int(used),
        ):
            package = None
            if serial is not None and chain and anchors and configuration:
                package = Package(
                    serial=serial,
                    chain=chain,
                    anchors=anchors,
                    configuration=configuration,
                    given=parse_given(given),
                )
            return Generation(
                number=number,
                state=UnitState(state),
                csr=csr,
                csr_hash=csr_hash,
                key=KeyOrigin(key),
                package=package,
                is_used=bool(used),
            )
        case _:
            raise StoreError("the station's ledger holds a row that is not whole")


def queued_rows(db: sqlite3.Connection) -> tuple[tuple[str, str], ...]:
    """Return (hardware id, device id) of units whose newest key waits for its certificate."""
    rows = db.execute(
        "SELECT u.hardware_id, u.device_id FROM units u JOIN generations g"
        " ON g.hardware_id = u.hardware_id WHERE g.state = ? AND u.doubt IS NULL"
        " AND g.number = (SELECT max(number) FROM generations WHERE hardware_id = u.hardware_id)"
        " ORDER BY g.changed_at, u.hardware_id LIMIT ?",
        (UnitState.RESERVED, _MOST),
    )
    return tuple((str(row[0]), str(row[1])) for row in rows.fetchall())


def unsynced_rows(db: sqlite3.Connection) -> tuple[tuple[str, int, str], ...]:
    """Return (hardware id, generation, serial) of all that were committed and not told to the server."""
    rows = db.execute(
        "SELECT hardware_id, number, serial FROM generations WHERE state IN (?, ?)"
        " ORDER BY changed_at, hardware_id LIMIT ?",
        (UnitState.COMMITTED, UnitState.LABELLED, _MOST),
    )
    return tuple((str(row[0]), int(row[1]), str(row[2])) for row in rows.fetchall())


def finished_rows(db: sqlite3.Connection) -> tuple[tuple[str, str, str], ...]:
    """Return (hardware id, device id, serial) of all that were committed, the oldest first."""
    rows = db.execute(
        "SELECT u.hardware_id, u.device_id, g.serial FROM generations g JOIN units u"
        " ON u.hardware_id = g.hardware_id WHERE g.state IN (?, ?, ?)"
        " ORDER BY g.changed_at, u.hardware_id",
        (UnitState.COMMITTED, UnitState.LABELLED, UnitState.SYNCED),
    )
    return tuple((str(row[0]), str(row[1]), str(row[2])) for row in rows.fetchall())
