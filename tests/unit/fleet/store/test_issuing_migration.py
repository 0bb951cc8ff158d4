"""A database of before: its devices are what they proved, and its compromised keys are blocked."""

import sqlite3
from collections.abc import Sequence

import pytest

from fleet.store.keys import COMPROMISED
from fleet.store.migrate import Migration, known_migrations

AT = "2026-01-01T00:00:00Z"


def run(database: sqlite3.Connection, scripts: Sequence[Migration]) -> None:
    for script in scripts:
        for statement in script.statements():
            database.execute(statement)


def register(database: sqlite3.Connection, device_id: str) -> None:
    database.execute(
        "INSERT INTO devices (domain, device_id, kind, registered_at) VALUES ('prod', ?, 'agent', ?)",
        (device_id, AT),
    )


def enroll(database: sqlite3.Connection, device_id: str, *, serial: str, kind: str) -> None:
    database.execute(
        "INSERT INTO codes (code_id, domain, device_id, kind, created_at) VALUES (?, 'prod', ?, ?, ?)",
        (f"c{serial}", device_id, kind, AT),
    )
    certify(database, device_id, serial=serial, code_id=f"c{serial}")


def certify(
    database: sqlite3.Connection,
    device_id: str,
    *,
    serial: str,
    code_id: str | None = None,
    reason: str | None = None,
) -> None:
    database.execute(
        "INSERT INTO certificates (serial, purpose, name, domain, device_id, key_hash, state, code_id,"
        " created_at, changed_at, reason) VALUES (?, 'device', ?, 'prod', ?, ?, 'active', ?, ?, ?, ?)",
        (serial, f"prod:{device_id}", device_id, f"key-of-{serial}", code_id, AT, AT, reason),
    )


@pytest.fixture
def database() -> sqlite3.Connection:
    scripts = known_migrations()
    before = next(place for place, script in enumerate(scripts) if script.name == "issuing")
    opened = sqlite3.connect(":memory:")
    run(opened, scripts[:before])
    for device_id in ("new", "coded", "claimed", "approved", "made", "again"):
        register(opened, device_id)
    enroll(opened, "coded", serial="41", kind="code")
    certify(opened, "coded", serial="42")  # renewed: it stands on the same proof
    enroll(opened, "claimed", serial="43", kind="claim")
    enroll(opened, "approved", serial="44", kind="approval")
    enroll(opened, "made", serial="45", kind="station")
    enroll(opened, "again", serial="46", kind="claim")
    enroll(opened, "again", serial="47", kind="code")
    certify(opened, "new", serial="48", reason="keyCompromise")
    certify(opened, "new", serial="49", reason="superseded")
    run(opened, scripts[before:])
    return opened


def test_a_device_is_as_sure_as_what_its_newest_lineage_began_with(database: sqlite3.Connection) -> None:
    found = database.execute("SELECT device_id, assurance FROM devices")
    assert dict(found.fetchall()) == {
        "new": "none",
        "coded": "code",
        "claimed": "claim",
        "approved": "approved",
        "made": "approved",
        "again": "code",
    }


def test_a_key_that_was_compromised_is_blocked(database: sqlite3.Connection) -> None:
    found = database.execute("SELECT key_hash, reason, blocked_by FROM blocked_keys").fetchall()
    assert found == [("key-of-48", COMPROMISED, "server")]
