"""Renewal, confirmation, recovery, revocation, observation, housekeeping, on the real store and core."""

import asyncio
import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.proofs import recovery_text
from device_agent.wire.replies import (
    Confirmed,
    Dead,
    DoneAck,
    Issued,
    Problem,
    Reply,
    ReportedState,
    Status,
)
from device_agent.wire.requests import Confirm, Done, Renew, StatusQuery
from fleet.errors import NotFoundError, RefusedError, StorageFullError
from fleet.model import Alarm, BrokerEventKind, CertificateState, RevocationReason
from fleet.ports import Work
from fleet.ra.devices import suspend
from fleet.ra.judging import Circumstances
from fleet.ra.keeping.housekeeping import tick
from fleet.ra.requests.answer import answer
from fleet.ra.requests.recover import recover
from fleet.ra.selection import BySerial, by_query
from fleet.ra.status.revoke import RevokeCase, judge_revoke, revoke
from fleet.store import audit
from fleet.store.audit import AuditQuery
from fleet.store.certificates import abandon_intents, load_certificate, with_key
from fleet.store.devices import load_device
from fleet.store.revocations import revocation_of
from tests.desk import NOON, Desk, Unit, body_of

D1 = Identity(domain="prod", device_id="d1")


def code_of(reply: Reply) -> ProblemCode:
    assert isinstance(reply, Problem), reply
    return reply.code


def renewal(unit: Unit, attempt: int | None = 1) -> Renew:
    return Renew(id="r", csr=unit.csr, attempt=attempt)


async def confirmed(desk: Desk) -> tuple[Unit, Issued]:
    unit, issued = await desk.enrolled()
    assert isinstance(await answer(desk.context, desk.speaking(issued), Confirm(id="c")), Confirmed)
    return unit, issued


async def renewed(desk: Desk, issued: Issued, *, attempt: int = 1) -> tuple[Unit, Issued]:
    fresh = Unit(device_id="d1")
    reply = await answer(desk.context, desk.speaking(issued), renewal(fresh, attempt))
    assert isinstance(reply, Issued), reply
    return fresh, reply


async def state_of(desk: Desk, serial: str) -> CertificateState:
    row = await desk.context.store.read(load_certificate, serial)
    assert row is not None
    return row.state


async def test_renewal_admits_both_until_the_new_one_is_confirmed(desk: Desk) -> None:
    _, first = await confirmed(desk)

    _, second = await renewed(desk, first)
    both = {first.serial, second.serial} <= desk.broker.listed.keys()
    reply = await answer(desk.context, desk.speaking(second), Confirm(id="c"))

    assert both
    assert isinstance(reply, Confirmed)
    assert first.serial not in desk.broker.listed
    assert await state_of(desk, first.serial) is CertificateState.SUPERSEDED


async def test_a_repeated_renewal_gets_the_same_certificate(desk: Desk) -> None:
    _, first = await confirmed(desk)
    fresh = Unit(device_id="d1")

    replies = [await answer(desk.context, desk.speaking(first), renewal(fresh)) for _ in range(2)]

    assert [type(reply) for reply in replies] == [Issued, Issued]
    assert len({reply.serial for reply in replies if isinstance(reply, Issued)}) == 1


async def test_a_late_duplicate_of_a_renewal_at_once_makes_one_live_certificate(desk: Desk) -> None:
    _, first = await confirmed(desk)
    fresh = Unit(device_id="d1")

    await asyncio.gather(*(answer(desk.context, desk.speaking(first), renewal(fresh)) for _ in range(6)))

    rows = await desk.context.store.read(with_key, fresh.key_hash)
    assert sum(row.state is CertificateState.ISSUED for row in rows) == 1


async def test_renewal_with_the_key_in_use_is_refused(desk: Desk) -> None:
    unit, first = await confirmed(desk)

    reply = await answer(desk.context, desk.speaking(first), renewal(unit))

    assert code_of(reply) is ProblemCode.KEY_IN_USE


async def test_an_agents_renewal_counts_its_attempts(desk: Desk) -> None:
    _, first = await confirmed(desk)

    reply = await answer(desk.context, desk.speaking(first), renewal(Unit(device_id="d1"), None))

    assert code_of(reply) is ProblemCode.MALFORMED


async def test_two_keys_for_one_attempt_raise_an_alarm_and_freeze_renewals(desk: Desk) -> None:
    _, first = await confirmed(desk)
    await renewed(desk, first, attempt=1)

    reply = await answer(desk.context, desk.speaking(first), renewal(Unit(device_id="d1"), 1))

    assert isinstance(reply, Problem)
    device = await desk.context.store.read(load_device, D1)
    assert device is not None
    assert device.alarm is Alarm.ROLLBACK_OR_CLONE


async def test_a_key_given_up_for_a_newer_one_is_told_dead(desk: Desk) -> None:
    _, first = await confirmed(desk)
    dropped, _ = await renewed(desk, first, attempt=1)
    await renewed(desk, first, attempt=2)

    reply = await answer(desk.context, desk.speaking(first), renewal(dropped, 1))

    assert isinstance(reply, Dead)
    assert reply.attempt_floor == 2


async def test_done_is_acknowledged_with_the_brokers_stamp_on_record(desk: Desk) -> None:
    _, first = await confirmed(desk)
    desk.broker.stamps = 41

    reply = await answer(desk.context, desk.speaking(first), Done(id="d"))

    assert isinstance(reply, DoneAck)
    row = await desk.context.store.read(load_certificate, first.serial)
    assert row is not None
    assert row.life.done_stamp == 41


async def test_status_tells_state_and_when_to_renew(desk: Desk) -> None:
    _, first = await confirmed(desk)

    reply = await answer(desk.context, desk.speaking(first), StatusQuery(id="s"))

    assert isinstance(reply, Status)
    assert reply.state is ReportedState.ACTIVE
    assert reply.renew_after == first.renew_after


async def test_a_revocation_during_a_renewal_wins(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = await confirmed(desk)
    fresh = Unit(device_id="d1")
    original = desk.context.store.write

    async def revoke_in_between(work: object, argument: object) -> object:
        if getattr(work, "__name__", "") == "_keep":
            await original(_revoke_now, NOON)
        return await original(work, argument)  # type: ignore[arg-type]  # passes on what it was given

    monkeypatch.setattr(desk.context.store, "write", revoke_in_between)
    reply = await answer(desk.context, desk.speaking(first), renewal(fresh))
    monkeypatch.undo()

    assert isinstance(reply, Problem), reply
    rows = await desk.context.store.read(with_key, fresh.key_hash)
    assert all(row.state not in {CertificateState.ISSUED, CertificateState.ACTIVE} for row in rows)


async def _revoke_now(tx: object, _at: object) -> None:
    case = RevokeCase(identity=D1, circumstances=Circumstances(at=NOON, actor="operator:test"))
    await judge_revoke(tx, case)  # type: ignore[arg-type]  # the store's own transaction


async def test_after_a_crash_the_void_intent_goes_on_the_revocation_list(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = await confirmed(desk)
    fresh = Unit(device_id="d1")
    with monkeypatch.context() as patch:
        patch.setattr("fleet.ra.issuing.sign_leaf", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            await answer(desk.context, desk.speaking(first), renewal(fresh))
    (void,) = await desk.context.store.read(with_key, fresh.key_hash)

    count = await desk.context.store.write(abandon_intents, NOON)

    assert count == 1
    assert await desk.context.store.read(revocation_of, void.serial) is not None


def _power_cut(*_arguments: object, **_named: object) -> None:
    raise KeyboardInterrupt


async def test_revoking_cuts_the_session_off_and_the_receipt_says_so(desk: Desk) -> None:
    _, first = await confirmed(desk)
    desk.broker.connect(first.serial)

    receipt = await desk.revoke("d1")

    assert receipt.verified, receipt.problem
    assert receipt.revoked == (first.serial,)
    assert [cut.serial for cut in receipt.sessions] == [first.serial]
    assert desk.broker.live == []
    assert desk.broker.crls


async def test_revoking_by_serial_takes_the_whole_lineage(desk: Desk) -> None:
    _, first = await confirmed(desk)
    _, second = await renewed(desk, first)

    receipt = await revoke(
        desk.context,
        BySerial(serial=first.serial),
        reason=RevocationReason.KEY_COMPROMISE,
        actor="operator:test",
    )

    assert set(receipt.revoked) == {first.serial, second.serial}
    assert not {first.serial, second.serial} & desk.broker.listed.keys()


async def test_revoking_while_the_broker_is_away_commits_and_says_what_is_left_to_do(desk: Desk) -> None:
    _, first = await confirmed(desk)
    desk.broker.fails = True

    receipt = await desk.revoke("d1")

    assert not receipt.verified
    assert "does not answer" in receipt.problem
    assert await state_of(desk, first.serial) is CertificateState.REVOKED
    desk.broker.fails = False
    await desk.context.broker.synchronise()
    assert first.serial not in desk.broker.listed


async def test_revoking_a_query_takes_all_that_fit(desk: Desk) -> None:
    for name in ("line3-1", "line3-2", "line4-1"):
        await desk.enrolled(name)

    receipt = await revoke(
        desk.context,
        by_query("domain=prod prefix=line3-", now=desk.context.clock()),
        reason=RevocationReason.CESSATION_OF_OPERATION,
        actor="operator:test",
    )

    assert set(receipt.names) == {"prod:line3-1", "prod:line3-2"}
    assert len(receipt.revoked) == 2


async def test_what_was_revoked_before_the_disk_was_full_is_cut_off_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = await desk.enrolled("d1")
    _, second = await desk.enrolled("d2")
    desk.broker.connect(first.serial)
    desk.broker.connect(second.serial)
    write = desk.context.store.write

    async def fill_up(work: Work[RevokeCase, object], case: RevokeCase) -> object:
        if work is judge_revoke and case.identity != D1:
            raise StorageFullError("the disk is full")
        return await write(work, case)

    with monkeypatch.context() as patch:
        patch.setattr(desk.context.store, "write", fill_up)
        with pytest.raises(StorageFullError):
            await revoke(
                desk.context,
                by_query("all domain=prod prefix=d", now=desk.context.clock()),
                reason=RevocationReason.KEY_COMPROMISE,
                actor="operator:test",
            )

    assert [session.name for session in desk.broker.live] == ["prod:d2"]
    assert first.serial not in desk.broker.listed
    assert second.serial in desk.broker.listed


async def test_revoking_nothing_is_an_error(desk: Desk) -> None:
    with pytest.raises(NotFoundError):
        await desk.revoke("nobody")


async def test_what_the_fleet_runs_on_is_not_revoked_by_a_slip(desk: Desk) -> None:
    serial = next(row.serial for row in desk.broker.listed.values() if row.name == "fleet-server")

    with pytest.raises(RefusedError):
        await revoke(
            desk.context,
            BySerial(serial=serial),
            reason=RevocationReason.UNSPECIFIED,
            actor="operator:test",
        )


async def test_a_revoked_device_stays_out_whatever_comes_late(desk: Desk) -> None:
    _, first = await confirmed(desk)
    fresh, second = await renewed(desk, first)
    await desk.revoke("d1")

    replies = [
        await answer(desk.context, desk.speaking(second), Confirm(id="c")),
        await answer(desk.context, desk.speaking(first), renewal(fresh)),
        await answer(desk.context, desk.speaking(first), renewal(Unit(device_id="d1"), 2)),
    ]

    assert all(isinstance(reply, Problem) for reply in replies)
    assert not {first.serial, second.serial} & desk.broker.listed.keys()


async def recorded(desk: Desk, action: str) -> int:
    return len(await desk.context.store.read(audit.search, AuditQuery(action=action, limit=1000)))


async def test_a_device_that_is_refused_again_and_again_cannot_fill_the_audit_trail(desk: Desk) -> None:
    _, first = await confirmed(desk)
    allowed = desk.context.config.policy.recover_per_minute
    await desk.revoke("d1")

    for _ in range(allowed + 5):
        reply = await answer(desk.context, desk.speaking(first), Confirm(id="c"))
        assert code_of(reply) is ProblemCode.REVOKED

    assert await recorded(desk, "request.refused") == allowed


async def test_a_key_of_another_device_is_put_on_record_once(desk: Desk) -> None:
    unit, _ = await desk.enrolled("d2")
    _, first = await confirmed(desk)

    for attempt in (1, 2, 3):
        request = Renew(id="r", csr=Unit(key=unit.key).csr, attempt=attempt)
        assert code_of(await answer(desk.context, desk.speaking(first), request)) is ProblemCode.KEY_IN_USE

    assert await recorded(desk, "key.reused") == 1


async def test_a_device_renews_so_often_in_a_minute_and_then_again_later(desk: Desk) -> None:
    _, first = await confirmed(desk)
    allowed = desk.context.config.policy.recover_per_minute

    for attempt in range(1, allowed + 1):
        await renewed(desk, first, attempt=attempt)
    one_more = await answer(desk.context, desk.speaking(first), renewal(Unit(device_id="d1"), allowed + 1))
    desk.clock.forward(timedelta(minutes=1))
    later = await answer(desk.context, desk.speaking(first), renewal(Unit(device_id="d1"), allowed + 1))

    assert code_of(one_more) is ProblemCode.RATE_LIMITED
    assert isinstance(later, Issued)


async def test_a_suspended_device_is_told_to_come_later(desk: Desk) -> None:
    _, first = await confirmed(desk)
    await suspend(desk.context, D1, actor="operator:test")

    reply = await answer(desk.context, desk.speaking(first), renewal(Unit(device_id="d1")))

    assert code_of(reply) is ProblemCode.SUSPENDED
    assert first.serial not in desk.broker.listed


async def test_time_ends_certificates_graces_and_waiting(desk: Desk) -> None:
    _, first = await confirmed(desk)
    _, unconfirmed = await desk.enrolled("d2")

    desk.clock.forward(desk.context.config.policy.pending + timedelta(minutes=1))
    await tick(desk.context)
    dead = await state_of(desk, unconfirmed.serial)
    desk.clock.forward(timedelta(days=91))
    await tick(desk.context)
    in_grace = await state_of(desk, first.serial)
    desk.clock.forward(timedelta(days=31))
    await tick(desk.context)

    assert dead is CertificateState.DEAD
    assert in_grace is CertificateState.EXPIRED_GRACE
    assert await state_of(desk, first.serial) is CertificateState.EXPIRED_FINAL
    assert first.serial not in desk.broker.listed


async def test_a_refused_handshake_after_done_alarms_and_a_use_of_the_line_after_it_is_kept(
    desk: Desk,
) -> None:
    _, first = await confirmed(desk)
    _, second = await renewed(desk, first)
    await answer(desk.context, desk.speaking(second), Confirm(id="c"))
    desk.broker.stamps = 10
    await answer(desk.context, desk.speaking(second), Done(id="d"))

    await desk.happens(BrokerEventKind.REFUSED, first.serial, stamp=11)

    device = await desk.context.store.read(load_device, D1)
    assert device is not None
    assert device.alarm is Alarm.ROLLBACK_OR_CLONE


async def test_a_refusal_stamped_before_done_is_no_evidence(desk: Desk) -> None:
    _, first = await confirmed(desk)
    _, second = await renewed(desk, first)
    await answer(desk.context, desk.speaking(second), Confirm(id="c"))
    desk.broker.stamps = 10
    await answer(desk.context, desk.speaking(second), Done(id="d"))

    await desk.happens(BrokerEventKind.REFUSED, first.serial, stamp=9)

    device = await desk.context.store.read(load_device, D1)
    assert device is not None
    assert device.alarm is Alarm.NONE


async def test_a_refusal_of_another_issuers_certificate_is_no_evidence(desk: Desk) -> None:
    _, first = await confirmed(desk)
    _, second = await renewed(desk, first)
    await answer(desk.context, desk.speaking(second), Confirm(id="c"))
    desk.broker.stamps = 10
    await answer(desk.context, desk.speaking(second), Done(id="d"))

    await desk.happens(BrokerEventKind.REFUSED, first.serial, stamp=11, issuer="ab" * 20)

    device = await desk.context.store.read(load_device, D1)
    assert device is not None
    assert device.alarm is Alarm.NONE


async def proof_of(desk: Desk, unit: Unit, issued: Issued, request: messages.Request) -> dict[str, str]:
    body = body_of(request)
    nonce = desk.context.nonces.issue(now=desk.clock(), randomness=desk.context.randomness(8))
    text = recovery_text(fleet="acme", domain="prod", nonce=nonce, request=body)
    return {
        "request": base64.b64encode(body).decode(),
        "certificate": issued.certificate,
        "nonce": nonce,
        "signature": base64.b64encode(unit.key.sign(text, ec.ECDSA(hashes.SHA256()))).decode(),
    }


async def ask_recovery(desk: Desk, proof: dict[str, str]) -> Reply:
    return await recover(desk.context, json.dumps(proof).encode(), address="192.0.2.9")


async def test_an_expired_device_renews_at_the_recovery_listener(desk: Desk) -> None:
    unit, first = await confirmed(desk)
    desk.clock.forward(timedelta(days=91))
    await tick(desk.context)

    fresh = Unit(device_id="d1")
    reply = await ask_recovery(desk, await proof_of(desk, unit, first, renewal(fresh)))

    assert isinstance(reply, Issued), reply


async def test_recovery_takes_a_nonce_once(desk: Desk) -> None:
    unit, first = await confirmed(desk)
    proof = await proof_of(desk, unit, first, StatusQuery(id="s"))

    replies = [await ask_recovery(desk, proof) for _ in range(2)]

    assert isinstance(replies[0], Status)
    assert code_of(replies[1]) is ProblemCode.BUSY


@pytest.mark.parametrize("member", ["request", "certificate", "nonce", "signature"])
async def test_recovery_refuses_whatever_was_changed(desk: Desk, member: str) -> None:
    unit, first = await confirmed(desk)
    _, other = await desk.enrolled("d2")
    proof = await proof_of(desk, unit, first, StatusQuery(id="s"))
    changed = {
        "request": base64.b64encode(body_of(StatusQuery(id="t"))).decode(),
        "certificate": other.certificate,
        "nonce": desk.context.nonces.issue(now=desk.clock(), randomness=b"8 octets"),
        "signature": base64.b64encode(b"\x30\x06\x02\x01\x01\x02\x01\x01").decode(),
    }

    reply = await ask_recovery(desk, proof | {member: changed[member]})

    assert isinstance(reply, Problem)
    assert await recorded(desk, "request.refused") == 1


async def test_recovery_is_limited_by_address_before_anything_is_verified(desk: Desk) -> None:
    allowed = desk.context.config.policy.recover_per_minute

    replies = [await ask_recovery(desk, {}) for _ in range(allowed + 1)]

    assert code_of(replies[-2]) is ProblemCode.MALFORMED
    assert code_of(replies[-1]) is ProblemCode.RATE_LIMITED


async def test_recovery_takes_no_enrollment(desk: Desk) -> None:
    unit, first = await confirmed(desk)
    proof = await proof_of(desk, unit, first, unit.enroll(await desk.code_for(D1)))

    assert code_of(await ask_recovery(desk, proof)) is ProblemCode.NOT_ALLOWED
