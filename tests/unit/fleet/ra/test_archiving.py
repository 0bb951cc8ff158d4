"""Old entries of the audit trail leave for files: nothing of the proof is lost, and nothing leaves unsaid."""

import gzip
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.ca.auditkey import load_audit_signer
from fleet.cli.audit_verifier import check_proof, check_trail
from fleet.errors import NeedsAttentionError, NotFoundError, RefusedError
from fleet.ports import Transaction
from fleet.ra.health import notary_of
from fleet.ra.keeping import archiving, retention
from fleet.ra.people import audits, proofs
from fleet.ra.people.proofs import Beginning
from fleet.ra.people.trail import trail_of
from fleet.ra.status.verdicts import Standing, Wanted, verify
from fleet.retention_sections import RetentionConfig
from fleet.store import audit, audit_archive
from fleet.store.audit import AuditQuery, StoredEntry
from fleet.store.certificates import load_certificate
from fleet.store.seal import AuditSeal, head_line
from fleet.store.verification import Verdict
from fleet.web.api.evidence import proof_members
from tests.desk import Desk, at_desk
from tests.homes import FleetHome

DAY = timedelta(days=1)
TEST = "operator:test"


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk whose commits are signed with the home's key; its head stands in no file of the home."""
    sign = load_audit_signer(fleet_home.home.audit_key)
    seal = AuditSeal(log="acme", sign=sign, clock=lambda: fleet_home.made_at)
    for left in fleet_home.home.archive.glob("*"):  # the home is shared, its database is not
        left.unlink()
    async with at_desk(fleet_home, tmp_path, seal=seal) as opened:
        opened.clock.now = fleet_home.made_at
        yield opened


async def verdict_of(desk: Desk) -> Verdict:
    return await audits.verify(desk.context.store, notary_of(desk.context))


async def exported(desk: Desk) -> list[str]:
    return [line async for line in audits.export(trail_of(desk.context))]


async def tamper(desk: Desk, *statements: str) -> None:
    async def change(tx: Transaction, _: None) -> None:
        for sql in statements:
            await tx.execute(sql)

    await desk.context.store.write(change, None)


async def archived(desk: Desk) -> Sequence[audit_archive.ArchiveFile]:
    """A device enrolls, a year goes by, another one enrolls; what is older than a month is archived."""
    await desk.enrolled("d1")
    desk.clock.forward(365 * DAY)
    await desk.enrolled("d2")
    return await archiving.archive(desk.context, older=30 * DAY, actor=TEST)


async def test_what_is_old_leaves_and_the_trail_is_whole_all_the_same(desk: Desk) -> None:
    (made,) = await archived(desk)
    verdict = await verdict_of(desk)
    assert verdict.findings == ()
    assert (made.first, verdict.archived) == (0, made.last + 1)
    first = await desk.context.store.read(audit.search, AuditQuery(limit=1))
    assert first[0].number == made.last + 1


async def test_the_export_is_the_same_as_before_and_one_entry_longer(desk: Desk) -> None:
    await desk.enrolled("d1")
    before = (await exported(desk))[:-1]
    desk.clock.forward(365 * DAY)
    await archiving.archive(desk.context, older=30 * DAY, actor=TEST)
    *after, head = await exported(desk)
    assert after[: len(before)] == before
    assert json.loads(after[-1])["action"] == "audit.archived"
    key = desk.context.home.audit_public_key.read_bytes()
    text = "".join(f"{line}\n" for line in [*after, head]).encode()
    assert "begin with" in check_trail(text, head=head.encode(), key=key)


async def test_an_archived_entry_is_proven_to_who_kept_a_head_from_before(desk: Desk) -> None:
    await desk.enrolled("d1")
    kept = await proofs.head(desk.context.store, desk.context.fleet)
    desk.clock.forward(365 * DAY)
    await archiving.archive(desk.context, older=30 * DAY, actor=TEST)
    beginning = Beginning(size=kept.head.size, root=kept.head.root)
    proof = await proofs.prove(trail_of(desk.context), number=3, beginning=beginning)
    shown = check_proof(
        json.dumps(proof_members(proof)).encode(),
        head=head_line(kept).encode(),
        key=desk.context.home.audit_public_key.read_bytes(),
    )
    assert shown.startswith("entry 3 is as it was recorded")


async def test_the_file_holds_the_lines_of_the_export(desk: Desk) -> None:
    await desk.enrolled("d1")
    before = (await exported(desk))[:-1]
    desk.clock.forward(365 * DAY)
    (made,) = await archiving.archive(desk.context, older=30 * DAY, actor=TEST)
    content = gzip.decompress((desk.context.home.archive / made.file).read_bytes())
    assert content.decode().splitlines() == before


async def test_a_second_archive_goes_on_where_the_first_ended(desk: Desk) -> None:
    (first,) = await archived(desk)
    desk.clock.forward(40 * DAY)
    await desk.enrolled("d3")
    (second,) = await archiving.archive(desk.context, older=30 * DAY, actor=TEST)
    assert second.first == first.last + 1
    assert await archiving.archive(desk.context, older=30 * DAY, actor=TEST) == ()
    assert (await verdict_of(desk)).is_whole


async def test_a_long_trail_goes_to_several_files(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "PER_FILE", 4)
    files = await archived(desk)
    assert len(files) > 1
    assert [one.first for one in files[1:]] == [one.last + 1 for one in files[:-1]]
    assert (await verdict_of(desk)).is_whole


async def test_what_is_young_stays(desk: Desk) -> None:
    await desk.enrolled("d1")
    with pytest.raises(RefusedError, match="younger than 30 days"):
        await archiving.archive(desk.context, older=29 * DAY, actor=TEST)
    assert await archiving.archive(desk.context, older=30 * DAY, actor=TEST) == ()
    assert (await verdict_of(desk)).archived == 0


@pytest.mark.parametrize("stopped_before", ["save_file", "let_go"])
async def test_a_power_cut_in_between_loses_nothing_and_the_next_call_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, stopped_before: str
) -> None:
    async def cut(_tx: Transaction, _what: object) -> None:
        raise OSError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(audit_archive, stopped_before, cut)
        with pytest.raises(OSError, match="power"):
            await archived(desk)
    assert (await verdict_of(desk)).is_whole
    await archiving.archive(desk.context, older=30 * DAY, actor=TEST)
    verdict = await verdict_of(desk)
    assert verdict.is_whole
    assert verdict.archived > 0


async def test_entries_that_left_unsaid_are_missed(desk: Desk) -> None:
    await desk.enrolled("d1")
    await tamper(
        desk,
        "INSERT INTO audit_archived SELECT number, leaf_hash FROM audit_entries WHERE number < 5",
        "DELETE FROM audit_details WHERE number < 5",
        "DELETE FROM audit_entries WHERE number < 5",
    )
    assert [(one.first, one.last) for one in (await verdict_of(desk)).findings] == [(0, 4)]


async def test_more_than_was_said_is_missed(desk: Desk) -> None:
    (made,) = await archived(desk)
    number = made.last + 1
    await tamper(
        desk,
        f"INSERT INTO audit_archived SELECT number, leaf_hash FROM audit_entries WHERE number = {number}",
        f"DELETE FROM audit_details WHERE number = {number}",
        f"DELETE FROM audit_entries WHERE number = {number}",
    )
    assert [(one.first, one.last) for one in (await verdict_of(desk)).findings] == [(number, number)]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM audit_archived WHERE number = 2",
        "DELETE FROM audit_archived WHERE number = 0",
        "UPDATE audit_archived SET leaf_hash = 'none' WHERE number = 2",
        f"UPDATE audit_archived SET leaf_hash = '{'0' * 64}' WHERE number = 2",
        "DELETE FROM audit_archived",
        (
            "INSERT INTO audit_entries SELECT 2, at, action, actor, domain, device_id, serial, leaf_hash"
            " FROM audit_entries LIMIT 1"
        ),
    ],
)
async def test_whatever_is_done_to_the_hashes_is_found(desk: Desk, sql: str) -> None:
    await archived(desk)
    await tamper(desk, sql)
    assert not (await verdict_of(desk)).is_whole


async def test_nothing_leaves_a_trail_that_was_changed(desk: Desk) -> None:
    await desk.enrolled("d1")
    await tamper(desk, f"UPDATE audit_entries SET leaf_hash = '{'0' * 64}' WHERE number = 2")
    desk.clock.forward(365 * DAY)
    with pytest.raises(NeedsAttentionError, match="not what was signed"):
        await archiving.archive(desk.context, older=30 * DAY, actor=TEST)


async def _first_entry(desk: Desk) -> StoredEntry:
    proof = await proofs.prove(trail_of(desk.context), number=0, beginning=None)
    assert proof.entry is not None
    return proof.entry


async def test_an_archive_that_is_elsewhere_is_asked_for_by_its_name(desk: Desk, tmp_path: Path) -> None:
    (made,) = await archived(desk)
    file = desk.context.home.archive / made.file
    away = file.replace(tmp_path / "away.gz")
    with pytest.raises(NotFoundError, match=made.file):
        await exported(desk)
    assert (await verdict_of(desk)).is_whole
    away.replace(file)
    assert (await _first_entry(desk)).number == 0


async def test_an_archive_that_was_changed_is_not_even_unpacked(desk: Desk) -> None:
    (made,) = await archived(desk)
    (desk.context.home.archive / made.file).write_bytes(b"\x1f\x8b" + b"\0" * 100)
    with pytest.raises(NeedsAttentionError, match="not the archive that was written"):
        await _first_entry(desk)


def with_rules(desk: Desk, rules: RetentionConfig) -> None:
    """Put other retention in force."""
    in_force = desk.context.in_force
    in_force.replace(config=replace(in_force.config, retention=rules))


async def test_by_default_nothing_goes_by_itself(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    await desk.revoke("d1")
    desk.clock.forward(3650 * DAY)
    await retention.let_go(desk.context)
    assert (await verdict_of(desk)).archived == 0
    assert await bytes_of(desk, issued.serial)


async def test_what_the_configuration_says_goes_by_itself_a_week_at_a_time(desk: Desk) -> None:
    with_rules(desk, RetentionConfig(audit_days=365))
    await desk.enrolled("d1")
    desk.clock.forward(370 * DAY)
    await retention.let_go(desk.context)
    assert (await verdict_of(desk)).archived == 0
    desk.clock.forward(3 * DAY)
    await retention.let_go(desk.context)
    verdict = await verdict_of(desk)
    assert verdict.archived > 0
    assert verdict.is_whole


async def bytes_of(desk: Desk, serial: str) -> bytes:
    record = await desk.context.store.read(load_certificate, serial)
    assert record is not None
    assert record.signed is not None
    return record.signed.der


async def test_certificates_that_are_long_over_give_up_their_bytes_and_are_judged_as_before(
    desk: Desk,
) -> None:
    with_rules(desk, RetentionConfig(certificates_days=400))
    _, over = await desk.enrolled("d1")
    await desk.revoke("d1")
    _, alive = await desk.enrolled("d2")
    desk.clock.forward(480 * DAY)
    await retention.let_go(desk.context)
    assert await bytes_of(desk, over.serial)  # its end is not 400 days ago
    desk.clock.forward(30 * DAY)
    await retention.let_go(desk.context)
    await retention.let_go(desk.context)
    assert await bytes_of(desk, over.serial) == b""
    assert await bytes_of(desk, alive.serial)  # it may come back within its grace, or with a code
    wanted = Wanted(at=desk.clock() - 509 * DAY)
    assert (await verify(desk.context, over.certificate, wanted)).standing is Standing.REVOKED
    told = await desk.context.store.read(audit.search_newest, AuditQuery(action="certificate.bytes-dropped"))
    assert [dict(one.entry.details)["count"] for one in told] == ["1"]
