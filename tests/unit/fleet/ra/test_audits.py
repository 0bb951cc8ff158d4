"""The audit trail of a real home, read, exported and checked with the real key."""

import json
import sqlite3
from pathlib import Path
from shutil import copyfile

import pytest

from fleet.ca.auditkey import load_audit_verifier
from fleet.errors import BadInputError
from fleet.ra.audits import Notary, export, search, tail, verify
from fleet.store.audit import AuditQuery
from fleet.store.sqlite import open_store
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


async def test_a_head_outside_that_is_damaged_is_an_error(
    fleet_home: FleetHome, copy: Path, tmp_path: Path
) -> None:
    head = tmp_path / "head.json"
    head.write_text("{}")
    async with open_store(copy) as store:
        with pytest.raises(BadInputError, match="the audit head is damaged"):
            await verify(store, notary(fleet_home, head))


async def test_every_entry_is_exported_as_a_line_of_json(fleet_home: FleetHome, copy: Path) -> None:
    async with open_store(copy) as store:
        lines = [json.loads(line) async for line in export(store)]
        (last,) = await tail(store, 1)
        found = await search(store, AuditQuery(action="operator.*"))
    assert [each["number"] for each in lines] == list(range(len(lines)))
    assert lines[0]["action"] == "fleet.initialised"
    assert lines[-1]["number"] == last.number
    assert ["role", "security"] in next(each for each in lines if each["action"] == "operator.added")[
        "details"
    ]
    assert [each.entry.action for each in found] == ["operator.added"]
