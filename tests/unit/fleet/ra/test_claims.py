"""One-time codes and batches: shown once, kept as hashes, ended by one switch."""

import asyncio
import re
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.code_text import WrittenCode
from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Issued, Problem
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import CertificateState
from fleet.ports import Transaction
from fleet.ra import devices
from fleet.ra.context import Asker, Listener
from fleet.ra.devices import Registration
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.people.claims import (
    CodeOrder,
    NewCode,
    create_codes,
    format_code,
    list_claims,
    revoke_batch,
    revoke_code,
)
from fleet.ra.people.sheets import sheet_html, sheet_text
from fleet.ra.requests.answer import answer
from fleet.ra.shown import ShownCertificate
from fleet.store.certificates import load_certificate
from fleet.store.codes import CodeQuery
from tests.desk import NOON, Desk, Unit

ADA = "operator:ada"
DAY = timedelta(days=1)
D1 = Identity(domain="prod", device_id="d1")
ORDER = CodeOrder(identities=(D1,), actor=ADA, lifetime=DAY)
BATCH = BatchOrder(domain="prod", name="line3", uses=1, lifetime=30 * DAY, actor=ADA)


def proof(new: NewCode) -> Proof:
    return Proof(kind=ProofKind.CODE, code=new.code)


async def asked(desk: Desk, unit: Unit, with_proof: Proof) -> Issued | ProblemCode:
    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(with_proof))
    if isinstance(reply, Problem):
        return reply.code
    assert isinstance(reply, Issued), reply
    return reply


async def everything(tx: Transaction, _argument: None) -> str:
    """Return the text of every row of every table."""
    tables = await tx.fetch_all("SELECT name FROM sqlite_master WHERE type = 'table'")
    return "".join([repr(await tx.fetch_all(f"SELECT * FROM {name!s}")) for (name,) in tables])


@given(st.binary(min_size=10, max_size=10))
def test_a_code_is_80_bits_in_groups_of_four(randomness: bytes) -> None:
    code = format_code(randomness).reveal()
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}", code)
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    value = 0
    for letter in code.replace("-", ""):
        value = value * 32 + digits.index(letter)
    assert value.to_bytes(10, "big") == randomness


async def test_a_code_lets_its_device_in_and_is_nowhere_in_the_store(desk: Desk) -> None:
    (new,) = await create_codes(desk.context, ORDER)
    assert new.expires_at == NOON + DAY
    assert isinstance(await asked(desk, Unit(device_id="d1"), proof(new)), Issued)
    stored = await desk.context.store.read(everything, None)
    assert new.code.reveal() not in stored
    assert new.code.reveal().replace("-", "") not in stored
    assert new.code_id in stored


async def test_a_code_is_for_its_device_only(desk: Desk) -> None:
    (new,) = await create_codes(desk.context, ORDER)
    assert await asked(desk, Unit(device_id="d2"), proof(new)) is ProblemCode.CODE_INVALID


async def test_a_code_that_was_bound_to_a_key_takes_no_other(desk: Desk) -> None:
    unit = Unit(device_id="d1")
    (new,) = await create_codes(desk.context, replace(ORDER, key_hash=unit.key_hash))
    assert await asked(desk, Unit(device_id="d1"), proof(new)) is ProblemCode.CODE_CONFLICT
    other = await create_codes(desk.context, replace(ORDER, key_hash=unit.key_hash))
    assert isinstance(await asked(desk, unit, proof(other[0])), Issued)


async def test_of_many_keys_with_one_code_at_once_exactly_one_gets_a_certificate(desk: Desk) -> None:
    (new,) = await create_codes(desk.context, ORDER)
    units = [Unit(device_id="d1") for _ in range(12)]
    replies = await asyncio.gather(*(asked(desk, unit, proof(new)) for unit in units))
    assert [type(reply) for reply in replies].count(Issued) == 1


async def test_a_code_expires(desk: Desk) -> None:
    (new,) = await create_codes(desk.context, ORDER)
    desk.clock.forward(DAY)
    assert await asked(desk, Unit(device_id="d1"), proof(new)) is ProblemCode.CODE_INVALID


async def test_a_code_that_was_closed_lets_nobody_in(desk: Desk) -> None:
    (new,) = await create_codes(desk.context, ORDER)
    closed = await revoke_code(desk.context, new.code_id, actor=ADA, reason="sheet lost")
    assert closed.closed_at == NOON
    assert not isinstance(await asked(desk, Unit(device_id="d1"), proof(new)), Issued)


async def test_a_code_that_nobody_made_cannot_be_closed(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="there is no code c1"):
        await revoke_code(desk.context, "c1", actor=ADA)


async def test_codes_are_made_for_all_devices_or_for_none(desk: Desk) -> None:
    retired = Identity(domain="prod", device_id="old")
    await devices.register(desk.context, Registration(identity=retired), actor=ADA)
    await devices.retire(desk.context, retired, actor=ADA)
    with pytest.raises(RefusedError, match="prod:old was retired"):
        await create_codes(desk.context, replace(ORDER, identities=(D1, retired)))
    assert (await list_claims(desk.context, CodeQuery())).codes == ()


async def test_a_code_that_replaces_ends_what_the_device_had(desk: Desk) -> None:
    (first,) = await create_codes(desk.context, ORDER)
    issued = await asked(desk, Unit(device_id="d1"), proof(first))
    assert isinstance(issued, Issued)
    (second,) = await create_codes(desk.context, replace(ORDER, replaces=True, reason="wiped"))
    assert issued.serial not in desk.broker.listed
    assert isinstance(await asked(desk, Unit(device_id="d1"), proof(second)), Issued)


async def test_an_alarm_stands_until_it_is_decided(desk: Desk) -> None:
    async def alarm(tx: Transaction, _argument: None) -> None:
        await tx.execute("UPDATE devices SET alarm = 1")

    await create_codes(desk.context, ORDER)
    await desk.context.store.write(alarm, None)
    with pytest.raises(RefusedError, match="an alarm stands") as caught:
        await create_codes(desk.context, ORDER)
    assert caught.value.hint == "fleet device explain prod:d1"


def claimed(claim: ShownCertificate, unit: Unit) -> Asker:
    return Asker(listener=Listener.BOOTSTRAP, client_id=unit.key_hash, certificate=claim)


async def opened(desk: Desk, order: BatchOrder = BATCH) -> ShownCertificate:
    claim = (await create_batch(desk.context, order)).own.issued
    return ShownCertificate(issuer=claim.issuer_id, serial=claim.serial, fingerprint=claim.fingerprint)


async def test_a_claim_certificate_lets_registered_ids_in_as_often_as_it_may(desk: Desk) -> None:
    shown = await opened(desk)
    units = [Unit(device_id=name) for name in ("d1", "d2")]
    for unit in units:
        await desk.register(unit.device_id, batch="line3")
    by_claim = Proof(kind=ProofKind.CLAIM)
    replies = [await answer(desk.context, claimed(shown, unit), unit.enroll(by_claim)) for unit in units]
    assert [type(reply) for reply in replies] == [Issued, Problem]
    (batch,) = [
        each for each in (await list_claims(desk.context, CodeQuery())).batches if each.name == "line3"
    ]
    assert (batch.uses, batch.uses_allowed) == (1, 1)


async def test_the_kill_switch_of_a_batch_ends_its_claim_and_leaves_its_devices(desk: Desk) -> None:
    shown = await opened(desk, replace(BATCH, uses=9))
    unit = Unit(device_id="d1")
    await desk.register("d1", batch="line3")
    by_claim = Proof(kind=ProofKind.CLAIM)
    issued = await answer(desk.context, claimed(shown, unit), unit.enroll(by_claim))
    assert isinstance(issued, Issued)
    desk.broker.connect(shown.serial)

    closed = await revoke_batch(desk.context, "prod", "line3", actor=ADA, reason="key published")

    assert closed.certificates == (shown.serial,)
    assert [each.serial for each in closed.cut_offs] == [shown.serial]
    record = await desk.context.store.read(load_certificate, shown.serial)
    assert record is not None
    assert record.state is CertificateState.REVOKED
    assert issued.serial in desk.broker.listed
    other = Unit(device_id="d2")
    late = await answer(desk.context, claimed(shown, other), other.enroll(by_claim))
    assert isinstance(late, Problem)


async def test_a_batch_has_one_claim_certificate(desk: Desk) -> None:
    await opened(desk)
    with pytest.raises(RefusedError, match="has a claim certificate already"):
        await opened(desk)


async def test_a_batch_that_came_with_registrations_gets_its_claim(desk: Desk) -> None:
    await devices.register(desk.context, Registration(identity=D1, batch="line3"), actor=ADA)
    assert (await create_batch(desk.context, BATCH)).batch.uses_allowed == 1


@pytest.mark.parametrize(
    "order", [replace(BATCH, name="public"), replace(BATCH, name="a/b"), replace(BATCH, uses=0)]
)
async def test_a_batch_without_a_proper_name_and_count_is_refused(desk: Desk, order: BatchOrder) -> None:
    with pytest.raises(BadInputError):
        await create_batch(desk.context, order)


async def test_the_public_claim_has_no_kill_switch(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="grants nothing"):
        await revoke_batch(desk.context, "prod", "public", actor=ADA)


async def test_a_batch_that_nobody_made_cannot_be_closed(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="prod has no batch line9"):
        await revoke_batch(desk.context, "prod", "line9", actor=ADA)


SHEET = (NewCode(identity=D1, code_id="c1", code=Secret("0A1B-2C3D-4E5F-6G7H"), expires_at=NOON),)


def test_a_sheet_of_text_has_a_line_a_device() -> None:
    assert sheet_text(SHEET, fleet="acme").splitlines()[2:] == [
        "prod:d1  0A1B-2C3D-4E5F-6G7H  until 2030-06-01T12:00:00Z"
    ]


def test_a_sheet_of_html_needs_no_network_and_escapes_what_it_shows() -> None:
    page = sheet_html(SHEET, fleet="<b>")
    assert "0A1B-2C3D-4E5F-6G7H" in page
    assert "<b>" not in page
    assert "http" not in page
    assert "src=" not in page


def test_a_card_has_a_qr_code_that_says_whose_the_code_is() -> None:
    scanned = "fleet-code:0A1B-2C3D-4E5F-6G7H:prod:d1"
    assert str(segno.make_qr(scanned, error="m").svg_inline(scale=2)) in sheet_html(SHEET, fleet="acme")
    assert WrittenCode.parse(scanned).identity == D1


def test_where_no_qr_code_can_be_drawn_a_card_has_the_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    page = sheet_html(SHEET, fleet="acme")
    assert "0A1B-2C3D-4E5F-6G7H" in page
    assert "<svg" not in page


def test_a_code_is_not_seen_where_it_is_not_meant_to_be() -> None:
    assert "0A1B" not in repr(SHEET)
