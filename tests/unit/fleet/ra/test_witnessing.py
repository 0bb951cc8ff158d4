"""Second parties witness the audit trail: what they cosign stands, and none of them holds us up."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.ca.auditkey import load_audit_signer
from fleet.core.checkpoint import WITNESS_KEY, parse_key
from fleet.errors import NotFoundError, UnreachableError
from fleet.ra.context import Context
from fleet.ra.keeping.witnessing import (
    CONTRADICTED,
    ask_witnesses,
    checkpoint_note,
    signer_of,
    witnessed,
)
from fleet.ra.witness import Witness
from fleet.store import audit, witnesses
from fleet.store.audit import AuditQuery
from fleet.store.seal import AuditSeal
from fleet.store.witnesses import WitnessRecord
from fleet.witness_sections import WitnessConfig
from tests.desk import Desk, at_desk
from tests.homes import FleetHome
from tests.witness import MemoryWitness

MINUTES = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    sign = load_audit_signer(fleet_home.home.audit_key)
    seal = AuditSeal(log="acme", sign=sign, clock=lambda: fleet_home.made_at)
    async with at_desk(fleet_home, tmp_path, seal=seal) as opened:
        yield opened


def seen_by(desk: Desk, witness: MemoryWitness, *, name: str = "auditor") -> Context:
    """Return the context of a fleet that this witness knows."""
    witness.log_key = witness.log_key or signer_of(desk.context).key.text()
    key = parse_key(witness.key, kind=WITNESS_KEY)
    settings = WitnessConfig(name=name, url="https://witness.example.org", key=key)

    async def submit(body: bytes) -> tuple[int, bytes]:
        return witness.answer(body)

    return replace(desk.context, witnesses=(Witness(settings=settings, submit=submit),))


async def record_of(context: Context) -> WitnessRecord:
    (record,) = await context.store.read(witnesses.witnesses, None)
    return record


async def size_of(context: Context) -> int:
    return await context.store.read(lambda tx, _: audit.count_entries(tx), None)


async def test_a_trail_that_grows_is_cosigned_again_and_again(desk: Desk) -> None:
    witness = MemoryWitness()
    context = seen_by(desk, witness)
    for name in ("d1", "d2", "d3"):
        await desk.enrolled(name)
        await ask_witnesses(context)
        record = await record_of(context)
        assert (record.problem, record.size, witness.size) == ("", await size_of(context), record.size)
        desk.clock.forward(10 * MINUTES)
    assert len(witness.asked) == 3


async def test_a_trail_that_stands_still_is_shown_once_a_day(desk: Desk) -> None:
    witness = MemoryWitness()
    context = seen_by(desk, witness)
    await desk.enrolled("d1")
    for _ in range(3):
        await ask_witnesses(context)
        desk.clock.forward(8 * timedelta(hours=1))
    assert len(witness.asked) == 1
    await ask_witnesses(context)
    assert len(witness.asked) == 2


async def test_a_witness_that_knows_more_than_we_noted_is_asked_from_there(desk: Desk) -> None:
    witness = MemoryWitness()
    context = seen_by(desk, witness)
    await desk.enrolled("d1")
    await ask_witnesses(context)
    await desk.enrolled("d2")
    known = await record_of(context)
    await context.store.write(witnesses.save_witness, replace(known, size=0, tried_at=known.tried_at - DAY))
    await ask_witnesses(context)
    record = await record_of(context)
    assert (record.problem, record.size) == ("", await size_of(context))
    assert len(witness.asked) == 3


async def test_the_cosigned_checkpoint_is_printed_with_the_line_of_the_witness(desk: Desk) -> None:
    witness = MemoryWitness()
    context = seen_by(desk, witness)
    await desk.enrolled("d1")
    await ask_witnesses(context)
    size = await size_of(context)
    await desk.enrolled("d2")
    note = await checkpoint_note(context, witness="auditor")
    text, signatures = note.split("\n\n")
    assert text.splitlines()[:2] == [signer_of(context).key.name, str(size)]
    assert [line.split(" ")[1] for line in signatures.splitlines()] == [
        signer_of(context).key.name,
        witness.name,
    ]
    newest = await checkpoint_note(context, witness=None)
    assert int(newest.splitlines()[1]) > size


async def test_of_a_witness_that_has_cosigned_nothing_nothing_is_printed(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="auditor has cosigned nothing"):
        await checkpoint_note(desk.context, witness="auditor")


async def test_a_witness_that_is_away_is_asked_later_and_what_it_cosigned_stands(desk: Desk) -> None:
    witness = MemoryWitness()
    context = seen_by(desk, witness)
    await desk.enrolled("d1")
    await ask_witnesses(context)
    before = await record_of(context)

    async def away(_body: bytes) -> tuple[int, bytes]:
        raise UnreachableError("it did not answer within 10 s")

    desk.clock.forward(DAY)
    await desk.enrolled("d2")
    await ask_witnesses(replace(context, witnesses=(replace(context.witnesses[0], submit=away),)))
    after = await record_of(context)
    assert after.problem == "it did not answer within 10 s"
    assert (after.size, after.cosignature) == (before.size, before.cosignature)
    desk.clock.forward(10 * MINUTES)
    await ask_witnesses(context)
    assert (await record_of(context)).problem == ""


async def contradictions(context: Context) -> int:
    return len(await context.store.read(audit.search_newest, AuditQuery(action="audit.contradicted")))


async def test_a_trail_that_was_cut_is_told_by_the_witness_and_stands_on_the_trail_once(desk: Desk) -> None:
    witness = MemoryWitness()
    context = seen_by(desk, witness)
    await desk.enrolled("d1")
    witness.size, witness.root = 10_000, b"\x01" * 32
    for _ in range(3):
        await ask_witnesses(context)
        desk.clock.forward(10 * MINUTES)
    record = await record_of(context)
    assert record.problem.startswith(f"{CONTRADICTED}: it has 10000 entries")
    assert await contradictions(context) == 1


async def test_a_trail_that_was_written_anew_is_told_by_the_witness(desk: Desk) -> None:
    witness = MemoryWitness()
    context = seen_by(desk, witness)
    await desk.enrolled("d1")
    witness.size, witness.root = 5, b"\x01" * 32
    await ask_witnesses(context)
    assert (await record_of(context)).problem == f"{CONTRADICTED}: the proof does not lead there"
    assert await contradictions(context) == 1


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (404, b"", "does not know this fleet"),
        (403, b"", "knows another key"),
        (500, b"", "its status is 500"),
        (302, b"", "its status is 302"),
        (200, b"", "no cosignature of"),
        (200, "\u2014 witness.example.org/w1 AAAA\n".encode(), "no cosignature of"),
        (409, b"none", "does not say how many"),
    ],
)
async def test_an_answer_that_does_not_count_is_told_and_changes_nothing(
    desk: Desk, status: int, body: bytes, problem: str
) -> None:
    context = seen_by(desk, MemoryWitness())
    await desk.enrolled("d1")

    async def strange(_body: bytes) -> tuple[int, bytes]:
        return status, body

    await ask_witnesses(replace(context, witnesses=(replace(context.witnesses[0], submit=strange),)))
    record = await record_of(context)
    assert problem in record.problem
    assert (record.size, record.cosignature) == (0, None)


async def test_a_cosignature_by_another_key_is_refused(desk: Desk) -> None:
    witness, impostor = MemoryWitness(), MemoryWitness()
    context = seen_by(desk, witness)
    impostor.log_key = witness.log_key
    await desk.enrolled("d1")

    async def submit(body: bytes) -> tuple[int, bytes]:
        return impostor.answer(body)

    await ask_witnesses(replace(context, witnesses=(replace(context.witnesses[0], submit=submit),)))
    assert (await record_of(context)).cosignature is None


async def test_without_witnesses_no_key_is_made(desk: Desk) -> None:
    desk.context.home.checkpoint_key.unlink(missing_ok=True)
    await ask_witnesses(desk.context)
    assert not desk.context.home.checkpoint_key.exists()


async def test_the_doctor_tells_of_each_witness(desk: Desk) -> None:
    witness = MemoryWitness(at=int(desk.clock().timestamp()))
    context = seen_by(desk, witness)
    settings = context.witnesses[0].settings
    context.in_force.replace(config=replace(context.config, witnesses=(settings,)))
    await desk.enrolled("d1")
    told = [(await witnessed(context))[0]]
    await ask_witnesses(context)
    told += await witnessed(context)
    desk.clock.forward(3 * DAY)
    told += await witnessed(context)
    witness.size = 10_000
    await ask_witnesses(context)
    told += await witnessed(context)
    assert [one.ok for one in told] == [False, True, False, False]
    assert told[-1].fix == "fleet audit verify"
