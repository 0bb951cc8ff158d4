"""Claims and stations: one (device, key) once, registered ids alone, the rest waits for an approval."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Confirmed, Issued, Pending, Problem, Reply
from device_agent.wire.requests import Confirm, Proof, ProofKind, Renew
from fleet.model import BrokerEvent, BrokerEventKind, CertificateState
from fleet.ra.context import Asker, Listener
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.people.claims import CodeOrder, create_codes, revoke_batch
from fleet.ra.people.stations import add_station
from fleet.ra.requests.answer import answer, answer_body, answer_unit_confirm
from fleet.ra.requests.applicants import StationWord
from fleet.ra.requests.approvals import Choice, approve
from fleet.ra.requests.queue import MAX_WAITING, short_code
from fleet.ra.shown import ShownCertificate, shown_certificate
from fleet.store.certificates import load_certificate
from fleet.store.claims import load_batch
from fleet.store.stations import list_units
from tests.desk import NOON, Desk, Unit, body_of, station_order

CLAIM = Proof(kind=ProofKind.CLAIM)
STATION = Proof(kind=ProofKind.STATION)


def code_of(reply: Reply) -> ProblemCode:
    assert isinstance(reply, Problem), reply
    return reply.code


async def claim_of_batch(desk: Desk, name: str = "b1", *, uses: int = 2) -> ShownCertificate:
    order = BatchOrder(
        domain="prod", name=name, uses=uses, lifetime=timedelta(days=30), actor="operator:test"
    )
    claim = await create_batch(desk.context, order)
    return shown_certificate(claim.own.certificate.public_bytes(Encoding.DER))


def with_claim(desk: Desk, unit: Unit, claim: ShownCertificate) -> Asker:
    """Return the asker at bootstrap, whose connection the broker has told of."""
    event = BrokerEvent(
        kind=BrokerEventKind.CONNECTED,
        stamp=1,
        issuer=claim.issuer,
        serial=claim.serial,
        name="prod.b1",
        client_id=unit.key_hash,
        at=NOON,
    )
    desk.context.presence.note(event)
    return unit.at_bootstrap()


async def test_a_claim_enrolls_an_id_that_is_registered_for_its_batch(desk: Desk) -> None:
    claim = await claim_of_batch(desk)
    await desk.register("d1", batch="b1")
    unit = Unit(device_id="d1")
    asker = with_claim(desk, unit, claim)

    first = await answer(desk.context, asker, unit.enroll(CLAIM))
    second = await answer(desk.context, asker, unit.enroll(CLAIM))

    assert isinstance(first, Issued), first
    assert isinstance(second, Issued)
    assert first.serial == second.serial
    batch = await desk.context.store.read(_batch, ("prod", "b1"))
    assert batch == 1


async def _batch(tx: object, key: tuple[str, str]) -> int:
    batch = await load_batch(tx, *key)  # type: ignore[arg-type]  # the store's own transaction
    assert batch is not None
    return batch.uses


async def test_a_claim_does_not_enroll_a_device_twice_with_another_key(desk: Desk) -> None:
    claim = await claim_of_batch(desk)
    await desk.register("d1", batch="b1")
    unit, thief = Unit(device_id="d1"), Unit(device_id="d1")
    await answer(desk.context, with_claim(desk, unit, claim), unit.enroll(CLAIM))

    reply = await answer(desk.context, with_claim(desk, thief, claim), thief.enroll(CLAIM))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_a_claim_is_worth_its_count_of_devices_and_no_more(desk: Desk) -> None:
    claim = await claim_of_batch(desk, uses=1)
    replies = []
    for name in ("d1", "d2"):
        await desk.register(name, batch="b1")
        unit = Unit(device_id=name)
        replies.append(await answer(desk.context, with_claim(desk, unit, claim), unit.enroll(CLAIM)))

    assert isinstance(replies[0], Issued)
    assert code_of(replies[1]) is ProblemCode.NOT_ALLOWED


async def test_an_id_that_is_not_registered_waits_and_goes_on_once_it_is_approved(desk: Desk) -> None:
    claim = await claim_of_batch(desk)
    unit = Unit(device_id="stranger")
    asker = with_claim(desk, unit, claim)

    pending = await answer(desk.context, asker, unit.enroll(CLAIM))
    again = await answer(desk.context, asker, unit.enroll(CLAIM))
    identity = replace(await desk.register("other"), device_id="stranger")
    await approve(desk.context, Choice(identity=identity), actor="operator:test")
    issued = await answer(desk.context, asker, unit.enroll(CLAIM))

    assert isinstance(pending, Pending)
    assert isinstance(again, Pending)
    assert pending.code == again.code == short_code(unit.key_hash)
    assert isinstance(issued, Issued), issued


async def test_the_queue_of_those_who_wait_behind_one_claim_is_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.ra.requests.queue.MAX_WAITING", 2)
    claim = await claim_of_batch(desk)
    units = [Unit(device_id=f"s{number}") for number in range(3)]

    replies = [
        await answer(desk.context, with_claim(desk, unit, claim), unit.enroll(CLAIM)) for unit in units
    ]

    assert MAX_WAITING > 2
    assert [type(reply) for reply in replies] == [Pending, Pending, Problem]
    assert code_of(replies[2]) is ProblemCode.BUSY


async def test_a_closed_batch_admits_nobody_any_more(desk: Desk) -> None:
    claim = await claim_of_batch(desk)
    await desk.register("d1", batch="b1")
    await revoke_batch(desk.context, "prod", "b1", actor="operator:test")
    unit = Unit(device_id="d1")

    reply = await answer(desk.context, with_claim(desk, unit, claim), unit.enroll(CLAIM))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_the_public_claim_grants_nothing_without_a_code(desk: Desk) -> None:
    await desk.register("d1")
    pem = desk.context.home.public_claim("prod").certificate.read_bytes()
    der = x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)
    unit = Unit(device_id="d1")

    reply = await answer(desk.context, with_claim(desk, unit, shown_certificate(der)), unit.enroll(CLAIM))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_a_claim_that_the_broker_does_not_know_of_grants_nothing(desk: Desk) -> None:
    await claim_of_batch(desk)
    await desk.register("d1", batch="b1")
    unit = Unit(device_id="d1")

    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(CLAIM))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_a_devices_certificate_is_no_claim(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    await desk.register("d2", batch=None)
    leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
    unit = Unit(device_id="d2")
    asker = Asker(listener=Listener.HTTPS, certificate=shown_certificate(leaf.public_bytes(Encoding.DER)))

    reply = await answer(desk.context, asker, unit.enroll(CLAIM))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_a_claim_does_not_bring_a_revoked_device_back(desk: Desk) -> None:
    claim = await claim_of_batch(desk)
    await desk.register("d1", batch="b1")
    await desk.revoke("d1")
    unit = Unit(device_id="d1")

    reply = await answer(desk.context, with_claim(desk, unit, claim), unit.enroll(CLAIM))

    assert code_of(reply) is ProblemCode.REVOKED


LOCAL = Asker(listener=Listener.ADMIN, station="local")


async def test_a_station_enrolls_a_new_unit_into_its_batch_and_reports_its_commit(desk: Desk) -> None:
    unit = Unit(device_id="unit-1")

    issued = await answer(desk.context, LOCAL, unit.enroll(STATION))
    assert isinstance(issued, Issued), issued
    confirms = [
        await answer_unit_confirm(desk.context, LOCAL, body_of(Confirm(id="1")), serial=issued.serial)
        for _ in range(2)
    ]

    assert all(isinstance(reply, Confirmed) for reply in confirms)
    units = await desk.context.store.read(list_units, "local")
    assert [(row.identity.device_id, row.outcome) for row in units] == [("unit-1", "committed")]


async def test_a_station_confirms_only_what_it_enrolled(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")

    reply = await answer_unit_confirm(desk.context, LOCAL, body_of(Confirm(id="1")), serial=issued.serial)

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_a_station_replaces_a_wiped_unit_that_it_names_by_serial(desk: Desk) -> None:
    old, new = Unit(device_id="unit-1"), Unit(device_id="unit-1")
    first = await answer(desk.context, LOCAL, old.enroll(STATION))
    assert isinstance(first, Issued)

    refused = await answer(desk.context, LOCAL, new.enroll(STATION))
    body = body_of(new.enroll(STATION))
    second = await answer_body(desk.context, LOCAL, body, word=StationWord(replaces=first.serial))
    again = await answer_body(desk.context, LOCAL, body, word=StationWord(replaces=first.serial))

    assert code_of(refused) is ProblemCode.NOT_ALLOWED
    assert isinstance(second, Issued), second
    assert isinstance(again, Issued)
    assert again.serial == second.serial
    row = await desk.context.store.read(load_certificate, first.serial)
    assert row is not None
    assert row.state is CertificateState.REVOKED
    assert set(desk.broker.listed) >= {second.serial}
    assert first.serial not in desk.broker.listed


async def replacing(desk: Desk, asker: Asker, device_id: str, serial: str) -> Reply:
    body = body_of(Unit(device_id=device_id).enroll(STATION))
    return await answer_body(desk.context, asker, body, word=StationWord(replaces=serial))


async def test_a_station_replaces_no_unit_that_another_station_made(desk: Desk) -> None:
    order = BatchOrder(
        domain="prod", name="shared", uses=5, lifetime=timedelta(days=30), actor="operator:test"
    )
    await create_batch(desk.context, order)
    for name in ("line1", "line2"):
        await add_station(desk.context, station_order(name, "shared"))
    line1, line2 = (Asker(listener=Listener.ADMIN, station=name) for name in ("line1", "line2"))
    first = await answer(desk.context, line1, Unit(device_id="unit-1").enroll(STATION))
    assert isinstance(first, Issued), first

    reply = await replacing(desk, line2, "unit-1", first.serial)

    assert code_of(reply) is ProblemCode.NOT_ALLOWED
    assert first.serial in desk.broker.listed


async def test_a_station_replaces_no_device_that_has_renewed_since(desk: Desk) -> None:
    unit = Unit(device_id="unit-1")
    first = await answer(desk.context, LOCAL, unit.enroll(STATION))
    assert isinstance(first, Issued), first
    await answer_unit_confirm(desk.context, LOCAL, body_of(Confirm(id="1")), serial=first.serial)
    renew = Renew(id="2", csr=Unit(device_id="unit-1").csr, attempt=1, anchors=())
    renewed = await answer(desk.context, desk.speaking(first, device_id="unit-1"), renew)
    assert isinstance(renewed, Issued), renewed
    await answer(desk.context, desk.speaking(renewed, device_id="unit-1"), Confirm(id="3"))

    reply = await replacing(desk, LOCAL, "unit-1", first.serial)

    assert code_of(reply) is ProblemCode.NOT_ALLOWED
    assert renewed.serial in desk.broker.listed


async def test_a_station_replaces_no_device_that_has_a_life_of_its_own_by_now(desk: Desk) -> None:
    first = await answer(desk.context, LOCAL, Unit(device_id="unit-1").enroll(STATION))
    assert isinstance(first, Issued), first
    identity = Identity(domain="prod", device_id="unit-1")
    order = CodeOrder(
        identities=(identity,), actor="operator:test", lifetime=timedelta(days=1), replaces=True
    )
    (code,) = await create_codes(desk.context, order)
    unit = Unit(device_id="unit-1")
    proof = Proof(kind=ProofKind.CODE, code=code.code)
    second = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    assert isinstance(second, Issued), second

    reply = await replacing(desk, LOCAL, "unit-1", first.serial)

    assert code_of(reply) is ProblemCode.NOT_ALLOWED
    assert second.serial in desk.broker.listed


async def test_a_station_does_not_bring_a_revoked_device_back(desk: Desk) -> None:
    first = await answer(desk.context, LOCAL, Unit(device_id="unit-1").enroll(STATION))
    assert isinstance(first, Issued), first
    await desk.revoke("unit-1")

    reply = await replacing(desk, LOCAL, "unit-1", first.serial)

    assert code_of(reply) is ProblemCode.REVOKED


async def test_a_station_ends_no_alarm(desk: Desk) -> None:
    first = await answer(desk.context, LOCAL, Unit(device_id="unit-1").enroll(STATION))
    assert isinstance(first, Issued), first
    body = body_of(Confirm(id="1"))
    assert isinstance(await answer_unit_confirm(desk.context, LOCAL, body, serial=first.serial), Confirmed)
    for copy in (Unit(device_id="unit-1"), Unit(device_id="unit-1")):
        request = Renew(id="r", csr=copy.csr, attempt=1)
        await answer(desk.context, desk.speaking(first, device_id="unit-1"), request)

    reply = await replacing(desk, LOCAL, "unit-1", first.serial)

    assert code_of(reply) is ProblemCode.FROZEN


async def test_a_station_does_not_reach_into_another_batch(desk: Desk) -> None:
    await claim_of_batch(desk, "elsewhere")
    await desk.register("d1", batch="elsewhere")
    unit = Unit(device_id="d1")

    reply = await answer(desk.context, LOCAL, unit.enroll(STATION))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


@pytest.mark.parametrize("name", ["", "nobody"])
async def test_who_is_no_station_enrolls_nothing(desk: Desk, name: str) -> None:
    unit = Unit(device_id="unit-1")

    reply = await answer(desk.context, Asker(listener=Listener.ADMIN, station=name), unit.enroll(STATION))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_a_station_is_known_by_its_certificate_over_https(desk: Desk) -> None:
    pem = desk.context.home.station("local").certificate.read_bytes()
    der = x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)
    unit = Unit(device_id="unit-1")
    asker = Asker(listener=Listener.HTTPS, certificate=shown_certificate(der))

    assert isinstance(await answer(desk.context, asker, unit.enroll(STATION)), Issued)
