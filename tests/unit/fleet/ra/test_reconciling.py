"""The records of devices are what the audit trail tells; whoever writes one beside the server is seen."""

import gzip
from dataclasses import replace
from hashlib import sha256

import pytest

from device_agent.wire.requests import Confirm
from fleet.ports import Transaction
from fleet.ra import devices
from fleet.ra.keeping.reconciling import Difference, reconcile
from fleet.ra.requests.answer import answer
from fleet.ra.trail_lines import line
from fleet.store import audit, audit_archive
from fleet.store.audit_archive import ArchiveFile
from tests.desk import Desk
from tests.unit.fleet.ra.test_verdicts import renewed

ADA = "operator:ada"


async def lived(desk: Desk) -> str:
    """Several devices in every standing; returns the serial that d1 has now."""
    _, first = await desk.enrolled("d1")
    await answer(desk.context, desk.speaking(first), Confirm(id="c"))
    second = await renewed(desk, first)
    await answer(desk.context, desk.speaking(second), Confirm(id="c"))
    for name in ("d2", "d3", "d4"):
        await desk.enrolled(name)
    await desk.enrolled("d1", domain="lab")
    await desk.code_for(await desk.register("d5"))
    await devices.suspend(desk.context, await desk.register("d6"), actor=ADA, reason="")
    await desk.revoke("d2")
    return second.serial


async def differences(desk: Desk) -> tuple[Difference, ...]:
    return (await reconcile(desk.context)).differences


async def test_the_records_of_a_life_are_what_the_trail_tells(desk: Desk) -> None:
    await lived(desk)
    found = await reconcile(desk.context)
    assert found.differences == ()
    assert found.devices == 7


async def tamper(desk: Desk, sql: str, *values: str) -> None:
    async def change(tx: Transaction, _: None) -> None:
        await tx.execute("PRAGMA defer_foreign_keys = ON")
        await tx.execute(sql, values)

    await desk.context.store.write(change, None)


@pytest.mark.parametrize(
    ("sql", "name", "what"),
    [
        ("UPDATE devices SET revoked = 0 WHERE device_id = 'd2'", "prod:d2", "revoked"),
        ("UPDATE devices SET suspended = 0 WHERE device_id = 'd6'", "prod:d6", "suspended"),
        ("UPDATE devices SET alarm = 2 WHERE device_id = 'd3'", "prod:d3", "alarm"),
        (
            "UPDATE certificates SET state = 'active' WHERE device_id = 'd2'",
            "prod:d2",
            "certificates",
        ),
        (
            "UPDATE certificates SET key_hash = 'ab' WHERE device_id = 'd4'",
            "prod:d4",
            "certificates",
        ),
        ("DELETE FROM codes WHERE device_id = 'd5'", "prod:d5", "codes"),
    ],
)
async def test_a_record_that_was_changed_beside_the_trail_is_named(
    desk: Desk, sql: str, name: str, what: str
) -> None:
    await lived(desk)
    await tamper(desk, sql)
    assert await differences(desk) == (Difference(name=name, what=(what,)),)


async def test_another_certificate_under_a_serial_that_is_known_is_named(desk: Desk) -> None:
    serial = await lived(desk)
    await tamper(desk, "UPDATE certificates SET fingerprint = ? WHERE serial = ?", "ab" * 32, serial)
    assert await differences(desk) == (Difference(name="prod:d1", what=(f"fingerprint of {serial}",)),)


async def test_a_certificate_that_the_trail_never_saw_is_named(desk: Desk) -> None:
    serial = await lived(desk)
    columns = (
        "purpose, name, domain, device_id, key_hash, state, anchor, profile, issuer, not_before, not_after,"
        " der, created_at, changed_at"
    )
    await tamper(
        desk,
        f"INSERT INTO certificates (serial, fingerprint, {columns})"
        f" SELECT '7fff', 'ff', {columns} FROM certificates WHERE serial = ?",
        serial,
    )
    (found,) = await differences(desk)
    assert found.name == "prod:d1"
    assert found.what == ("certificates", "fingerprint of 7fff")


async def test_a_device_that_was_deleted_is_named(desk: Desk) -> None:
    await lived(desk)
    for table in ("codes", "devices"):
        await tamper(desk, f"DELETE FROM {table} WHERE device_id = 'd5'")
    assert await differences(desk) == (Difference(name="prod:d5", what=("the record is gone",)),)


async def test_archived_entries_count_too(desk: Desk) -> None:
    await lived(desk)
    made = ArchiveFile(first=0, last=40, file="audit-test.jsonl.gz", digest=b"", archived_at=desk.clock())
    page = await desk.context.store.read(audit.page, -1)
    lines = "".join(f"{line(stored)}\n" for stored in page if stored.number <= made.last)
    content = gzip.compress(lines.encode())
    folder = desk.context.home.archive
    folder.mkdir(exist_ok=True)
    (folder / made.file).write_bytes(content)
    made = replace(made, digest=sha256(content).digest())
    await desk.context.store.write(audit_archive.save_file, made)
    while await desk.context.store.write(audit_archive.let_go, made.last):
        pass
    assert await differences(desk) == ()
    await tamper(desk, "UPDATE devices SET revoked = 0 WHERE device_id = 'd2'")
    assert await differences(desk) == (Difference(name="prod:d2", what=("revoked",)),)
