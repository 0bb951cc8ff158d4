"""The audit trail of a real home, read, exported and checked with the real key."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile

import pytest

from fleet.ca.auditkey import load_audit_signer, load_audit_verifier
from fleet.model import AuditEntry
from fleet.ra.people.audits import Notary, export, search, tail, verify
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.seal import AuditSeal, read_head
from fleet.store.sqlite import open_store
from tests.evidence import trail_in
from tests.homes import PLAN, FleetHome


def notary(fleet_home: FleetHome, head_file: Path | None = None) -> Notary:
    home = fleet_home.home
    return Notary(
        fleet=PLAN.fleet,
        is_signed=load_audit_verifier(home.audit_public_key),
        head_file=head_file or home.audit_head,
    )


@pytest.fixture
def copy(fleet_home: FleetHome, tmp_path: Path) -> Path:
    return Path(copyfile(fleet_home.home.database, tmp_path / "copy.db"))


def tamper(database: Path, sql: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(sql)
    connection.close()


async def test_the_trail_of_a_new_home_is_whole(fleet_home: FleetHome, copy: Path) -> None:
    async with open_store(copy) as store:
        verdict = await verify(store, notary(fleet_home))
    assert verdict.findings == ()
    assert verdict.size > 0


async def test_a_copy_that_was_tampered_with_is_caught(fleet_home: FleetHome, copy: Path) -> None:
    tamper(copy, "UPDATE audit_entries SET actor = 'operator:eve' WHERE number = 5")
    async with open_store(copy) as store:
        verdict = await verify(store, notary(fleet_home))
    assert [(each.first, each.last) for each in verdict.findings] == [(5, 5)]


async def test_a_trail_that_was_cut_with_its_heads_is_caught_by_the_head_outside(
    fleet_home: FleetHome, copy: Path
) -> None:
    for sql in (
        "DELETE FROM audit_details WHERE number >= 1",
        "DELETE FROM audit_entries WHERE number >= 1",
        "DELETE FROM audit_heads WHERE size > 1",
        "DELETE FROM audit_peaks",
    ):
        tamper(copy, sql)
    async with open_store(copy) as store:
        verdict = await verify(store, notary(fleet_home))
    assert any("missing" in each.text for each in verdict.findings)


async def test_a_head_outside_that_is_gone_is_told(fleet_home: FleetHome, copy: Path, tmp_path: Path) -> None:
    async with open_store(copy) as store:
        verdict = await verify(store, notary(fleet_home, tmp_path / "gone.json"))
    (finding,) = verdict.findings
    assert "gone.json is missing" in finding.text


async def test_a_head_outside_that_is_damaged_is_told(
    fleet_home: FleetHome, copy: Path, tmp_path: Path
) -> None:
    head = tmp_path / "head.json"
    head.write_text("{}")
    async with open_store(copy) as store:
        verdict = await verify(store, notary(fleet_home, head))
    (finding,) = verdict.findings
    assert "the audit head is damaged" in finding.text


def sealed(fleet_home: FleetHome, head: Path) -> AuditSeal:
    sign = load_audit_signer(fleet_home.home.audit_key)
    return AuditSeal(log=PLAN.fleet, sign=sign, clock=lambda: fleet_home.made_at, head_file=head)


LATER = AuditEntry(at=datetime(2030, 1, 1, tzinfo=UTC), action="device.registered", actor="operator:ada")
CUT = (
    "DELETE FROM audit_details WHERE number >= 1",
    "DELETE FROM audit_entries WHERE number >= 1",
    "DELETE FROM audit_heads WHERE size > 1",
    "DELETE FROM audit_peaks WHERE level > 0",
    "DELETE FROM audit_peaks WHERE level = 0",
    "INSERT INTO audit_peaks SELECT 0, leaf_hash FROM audit_entries",
)


async def test_a_trail_that_was_cut_is_caught_after_the_server_went_on_with_it(
    fleet_home: FleetHome, copy: Path, tmp_path: Path
) -> None:
    head = Path(copyfile(fleet_home.home.audit_head, tmp_path / "head.json"))
    kept = read_head(head)
    assert kept is not None
    for sql in CUT:
        tamper(copy, sql)

    async with open_store(copy, seal=sealed(fleet_home, head)) as store:
        for _ in range(kept.head.size + 3):
            await store.write(audit.append, LATER)
    async with open_store(copy) as store:
        verdict = await verify(store, notary(fleet_home, head))

    assert read_head(head) == kept
    assert any("not those under the head" in each.text for each in verdict.findings)


async def test_a_trail_that_carries_on_from_the_head_outside_replaces_it(
    fleet_home: FleetHome, copy: Path, tmp_path: Path
) -> None:
    head = Path(copyfile(fleet_home.home.audit_head, tmp_path / "head.json"))
    kept = read_head(head)
    assert kept is not None

    async with open_store(copy, seal=sealed(fleet_home, head)) as store:
        await store.write(audit.append, LATER)

    newer = read_head(head)
    assert newer is not None
    assert newer.head.size == kept.head.size + 1


@pytest.mark.parametrize(
    "damage", ["root = 'x'", "at = 'yesterday'", "signature = 'text'", "size = 'many'", "size = 0"]
)
async def test_a_damaged_head_is_found_with_no_server_running(
    fleet_home: FleetHome, copy: Path, tmp_path: Path, damage: str
) -> None:
    head = Path(copyfile(fleet_home.home.audit_head, tmp_path / "head.json"))
    tamper(copy, f"UPDATE audit_heads SET {damage} WHERE size = (SELECT MAX(size) FROM audit_heads)")

    async with open_store(copy, seal=sealed(fleet_home, head)) as store:
        verdict = await verify(store, notary(fleet_home, head))

    assert any("damaged" in each.text for each in verdict.findings)


async def test_every_entry_is_exported_as_a_line_of_json_and_then_the_head_over_all(
    fleet_home: FleetHome, copy: Path
) -> None:
    async with open_store(copy) as store:
        *lines, head = [json.loads(line) async for line in export(trail_in(store, "acme"))]
        (last,) = await tail(store, 1)
        found = await search(store, AuditQuery(action="operator.*"))
    assert [each["number"] for each in lines] == list(range(len(lines)))
    assert lines[0]["action"] == "fleet.initialised"
    assert lines[-1]["number"] == last.number
    assert head["size"] == len(lines)
    assert ["role", "security"] in next(each for each in lines if each["action"] == "operator.added")[
        "details"
    ]
    assert [each.entry.action for each in found] == ["operator.added"]


async def test_a_part_of_the_trail_is_exported_with_the_head_over_all(copy: Path) -> None:
    async with open_store(copy) as store:
        whole = [line async for line in export(trail_in(store, "acme"))]
        part = [line async for line in export(trail_in(store, "acme"), after=9)]
    assert part == whole[10:]
