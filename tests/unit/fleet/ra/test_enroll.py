"""First certificates: who gets one, who does not, and what the store holds afterwards."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Issued, Problem, Reply
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from fleet.model import CertificateState, ClientKind
from fleet.ra.context import Asker, Listener
from fleet.ra.requests.answer import answer
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.certificates import with_key
from fleet.store.devices import load_device
from tests.desk import Desk, Unit

CLAIM = Proof(kind=ProofKind.CLAIM)


def code_of(reply: Reply) -> ProblemCode:
    assert isinstance(reply, Problem), reply
    return reply.code


async def test_a_code_gets_its_device_a_certificate_that_the_broker_admits(desk: Desk) -> None:
    unit, issued = await desk.enrolled("d1")

    leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
    assert leaf.public_key() == unit.key.public_key()
    assert issued.serial in desk.broker.listed
    assert issued.broker.name == "prod:d1"
    assert f"fleet/v1/prod/d1/{issued.serial}/request" in issued.broker.publish


async def test_a_repeated_request_gets_the_same_certificate(desk: Desk) -> None:
    identity = await desk.register("d1")
    unit, proof = Unit(device_id="d1"), await desk.code_for(identity)

    first = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    second = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))

    assert isinstance(first, Issued)
    assert isinstance(second, Issued)
    assert first.certificate == second.certificate
    assert first.renew_after == second.renew_after


async def test_two_keys_with_one_code_at_once_get_one_certificate(desk: Desk) -> None:
    identity = await desk.register("d1")
    proof = await desk.code_for(identity)
    units = [Unit(device_id="d1") for _ in range(2)]

    replies = await asyncio.gather(
        *(answer(desk.context, unit.at_bootstrap(), unit.enroll(proof)) for unit in units)
    )

    assert sum(isinstance(reply, Issued) for reply in replies) == 1
    assert [code_of(reply) for reply in replies if isinstance(reply, Problem)] == [ProblemCode.CODE_CONFLICT]


async def test_one_request_many_times_at_once_ends_with_one_certificate(desk: Desk) -> None:
    identity = await desk.register("d1")
    unit, proof = Unit(device_id="d1"), await desk.code_for(identity)

    replies = await asyncio.gather(
        *(answer(desk.context, unit.at_bootstrap(), unit.enroll(proof)) for _ in range(8))
    )

    assert {reply.certificate for reply in replies if isinstance(reply, Issued)}
    rows = await desk.context.store.read(with_key, unit.key_hash)
    assert sum(row.state is CertificateState.ISSUED for row in rows) == 1


@pytest.mark.parametrize("text", ["0000-0000-0000-0000", "x" * 128])
async def test_an_unknown_code_is_refused_without_saying_why(desk: Desk, text: str) -> None:
    await desk.register("d1")
    unit = Unit(device_id="d1")

    reply = await answer(
        desk.context, unit.at_bootstrap(), unit.enroll(Proof(kind=ProofKind.CODE, code=Secret(text)))
    )

    assert code_of(reply) is ProblemCode.CODE_INVALID


async def test_a_code_of_another_domain_than_the_channel_named_is_refused_and_stays_open(desk: Desk) -> None:
    identity = await desk.register("d1", domain="lab")
    unit, proof = Unit(device_id="d1"), await desk.code_for(identity)

    elsewhere = Asker(listener=Listener.HTTPS, domain="prod", kind=ClientKind.PLAIN)
    refused = await answer(desk.context, elsewhere, unit.enroll(proof))
    taken = await answer(desk.context, replace(elsewhere, domain="lab"), unit.enroll(proof))

    assert code_of(refused) is ProblemCode.CODE_INVALID
    assert isinstance(taken, Issued), taken
    device = await desk.context.store.read(load_device, identity)
    assert device is not None
    assert device.kind is ClientKind.PLAIN


async def test_a_code_is_for_its_own_device_alone(desk: Desk) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    await desk.register("d2")
    thief = Unit(device_id="d2")

    reply = await answer(desk.context, thief.at_bootstrap(), thief.enroll(proof))

    assert code_of(reply) is ProblemCode.CODE_INVALID


async def test_an_expired_code_opens_nothing_new_but_repeats_its_answer(desk: Desk) -> None:
    identity = await desk.register("d1")
    used, unused = await desk.code_for(identity), await desk.code_for(await desk.register("d2"))
    unit, late = Unit(device_id="d1"), Unit(device_id="d2")
    first = await answer(desk.context, unit.at_bootstrap(), unit.enroll(used))
    desk.clock.forward(timedelta(days=2))

    again = await answer(desk.context, unit.at_bootstrap(), unit.enroll(used))
    refused = await answer(desk.context, late.at_bootstrap(), late.enroll(unused))

    assert isinstance(first, Issued)
    assert isinstance(again, Issued)
    assert again.serial == first.serial
    assert code_of(refused) is ProblemCode.CODE_INVALID


async def test_the_client_id_must_be_the_hash_of_the_key(desk: Desk) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    unit = Unit(device_id="d1")
    asker = Asker(listener=Listener.BOOTSTRAP, client_id="0" * 64)

    reply = await answer(desk.context, asker, unit.enroll(proof))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_a_request_in_anothers_name_is_refused(desk: Desk) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    liar = Unit(device_id="d1")
    other = Unit(device_id="d9", key=liar.key)
    request = liar.enroll(proof)

    reply = await answer(
        desk.context, liar.at_bootstrap(), type(request)(id="1", device_id="d1", csr=other.csr, proof=proof)
    )

    assert code_of(reply) is ProblemCode.BAD_IDENTITY


async def test_a_key_of_another_device_is_refused_and_put_on_record(desk: Desk) -> None:
    unit, _ = await desk.enrolled("d1")
    proof = await desk.code_for(await desk.register("d2"))
    copy = Unit(device_id="d2", key=unit.key)

    reply = await answer(desk.context, copy.at_bootstrap(), copy.enroll(proof))

    assert code_of(reply) is ProblemCode.KEY_IN_USE
    found = await desk.context.store.read(audit.search, AuditQuery(action="key.reused"))
    assert [entry.entry.device_id for entry in found] == ["d2"]


async def test_a_crash_between_intent_and_result_leaves_a_void_row_and_a_retry_a_new_serial(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await desk.register("d1")
    unit, proof = Unit(device_id="d1"), await desk.code_for(identity)
    with monkeypatch.context() as patch:
        patch.setattr("fleet.ra.issuing.sign_leaf", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))

    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))

    assert isinstance(reply, Issued)
    rows = await desk.context.store.read(with_key, unit.key_hash)
    assert [row.state for row in rows] == [CertificateState.VOID, CertificateState.ISSUED]
    assert rows[1].serial == reply.serial


def _power_cut(*_arguments: object, **_named: object) -> None:
    raise KeyboardInterrupt


async def test_a_broker_that_is_down_does_not_keep_a_certificate_from_being_issued(desk: Desk) -> None:
    identity = await desk.register("d1")
    unit, proof = Unit(device_id="d1"), await desk.code_for(identity)
    desk.broker.fails = True

    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))

    assert isinstance(reply, Issued)
    desk.broker.fails = False
    await desk.context.broker.reach(10**6)
    assert reply.serial in desk.broker.listed


async def test_refusals_stand_on_the_audit_trail_but_cannot_fill_it(desk: Desk) -> None:
    unit = Unit(device_id="d1")
    bad = Proof(kind=ProofKind.CODE, code=Secret("nothing"))

    for _ in range(desk.context.config.policy.recover_per_minute + 20):
        await answer(desk.context, unit.at_bootstrap(), unit.enroll(bad))

    found = await desk.context.store.read(audit.search, AuditQuery(action="request.refused", limit=1000))
    assert len(found) == desk.context.config.policy.recover_per_minute


async def test_no_code_stands_on_the_audit_trail(desk: Desk) -> None:
    unit = Unit(device_id="d1")

    await answer(
        desk.context, unit.at_bootstrap(), unit.enroll(Proof(kind=ProofKind.CODE, code=Secret("S3CRET-C0DE")))
    )

    found = await desk.context.store.read(audit.search, AuditQuery())
    assert "S3CRET" not in repr(found)


async def test_codes_are_not_guessed_without_end_from_one_address(desk: Desk) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    unit, wrong = Unit(device_id="d1"), Proof(kind=ProofKind.CODE, code=Secret("nothing"))
    asker = Asker(listener=Listener.HTTPS, address="192.0.2.9")
    elsewhere = Asker(listener=Listener.HTTPS, address="192.0.2.10")

    for _ in range(desk.context.config.policy.recover_per_minute):
        reply = await answer(desk.context, asker, unit.enroll(wrong))
        assert code_of(reply) is ProblemCode.CODE_INVALID

    assert code_of(await answer(desk.context, asker, unit.enroll(proof))) is ProblemCode.RATE_LIMITED
    assert isinstance(await answer(desk.context, elsewhere, unit.enroll(proof)), Issued)


async def test_a_device_uses_no_code_of_another_over_its_own_connection(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    proof = await desk.code_for(await desk.register("d2"))

    reply = await answer(desk.context, desk.speaking(issued), Unit(device_id="d2").enroll(proof))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


@pytest.mark.parametrize("kind", [ProofKind.IDEVID, ProofKind.TPM, ProofKind.STATION])
async def test_a_proof_that_the_channel_does_not_carry_is_refused(desk: Desk, kind: ProofKind) -> None:
    unit = Unit(device_id="d1")

    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(Proof(kind=kind)))

    assert code_of(reply) is ProblemCode.NOT_ALLOWED


async def test_the_audit_trail_names_the_device_by_domain_and_id(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")

    found = await desk.context.store.read(audit.search, AuditQuery(serial=issued.serial))

    assert [entry.entry.action for entry in found] == ["certificate.intended", "certificate.issued"]
    assert {entry.entry.actor for entry in found} == {"device:prod:d1"}
