"""What operators do: suspend, revoke, grant, and decide about an alarm."""

from dataclasses import replace

import pytest

from device_agent.wire.identity import Identity
from fleet.core import lifecycle
from fleet.core.events import (
    Act,
    CarryOn,
    CloseCode,
    DismissConflict,
    Enroll,
    Grant,
    Issue,
    Noted,
    Nothing,
    Replace,
    Resume,
    Revoke,
    Suspend,
)
from fleet.model import Alarm, Certificate, CertificateState, Code, Device, StaleHandshake

State = CertificateState
IDENTITY = Identity(domain="prod", device_id="d1")
OLD = Certificate(serial="1" * 32, key_hash="1" * 64, state=State.SUPERSEDED)
NOW = Certificate(serial="2" * 32, key_hash="2" * 64, state=State.ACTIVE, parent=OLD.serial)
NEXT = Certificate(serial="3" * 32, key_hash="3" * 64, state=State.ISSUED, parent=NOW.serial, attempt=2)
INTENT = Certificate(serial="4" * 32, key_hash="4" * 64, state=State.VOID, parent=NOW.serial, attempt=3)
OPEN = Code(code_id="c1")
DEVICE = Device(identity=IDENTITY, certificates=(OLD, NOW, NEXT, INTENT), current=NOW.serial, codes=(OPEN,))
ALARMED = replace(
    DEVICE,
    alarm=Alarm.ROLLBACK_OR_CLONE,
    stale=StaleHandshake(serial=OLD.serial, stamp=7),
    code_conflict=True,
)


def after(device: Device, act: Act) -> Device:
    decision = lifecycle.decide(device, act)
    assert decision.verdict == Noted()
    return decision.device


def test_a_suspension_revokes_nothing_and_can_be_lifted() -> None:
    suspended = after(DEVICE, Suspend())
    assert lifecycle.admitted(suspended) == frozenset()
    assert after(suspended, Resume()) == DEVICE


@pytest.mark.parametrize("device", [DEVICE, ALARMED])
def test_a_revocation_takes_the_whole_lineage_its_intents_and_its_codes(device: Device) -> None:
    revoked = after(device, Revoke())
    assert {one.state for one in revoked.certificates} == {State.REVOKED}
    assert revoked.codes == ()
    assert revoked.revoked


def test_a_fresh_code_lets_a_revoked_device_start_again() -> None:
    granted = after(after(DEVICE, Revoke()), Grant(code_id="c2"))
    assert not granted.revoked
    decision = lifecycle.decide(granted, Enroll(code_id="c2", key_hash="9" * 64))
    assert isinstance(decision.verdict, Issue)
    assert lifecycle.admitted(granted) == frozenset()


def test_a_grant_may_name_its_key_from_the_start() -> None:
    granted = after(Device(identity=IDENTITY), Grant(code_id="c1", key_hash="1" * 64))
    right = lifecycle.decide(granted, Enroll(code_id="c1", key_hash="1" * 64))
    wrong = lifecycle.decide(granted, Enroll(code_id="c1", key_hash="2" * 64))
    assert isinstance(right.verdict, Issue)
    assert isinstance(wrong.verdict, Nothing)


def test_no_code_is_given_out_while_an_alarm_stands() -> None:
    decision = lifecycle.decide(ALARMED, Grant(code_id="c2"))
    assert isinstance(decision.verdict, Nothing)
    assert decision.device == ALARMED


def test_an_open_code_is_not_opened_again() -> None:
    assert isinstance(lifecycle.decide(DEVICE, Grant(code_id="c1")).verdict, Nothing)


def test_a_code_that_was_taken_back_admits_nobody() -> None:
    closed = after(DEVICE, CloseCode(code_id="c1"))
    decision = lifecycle.decide(closed, Enroll(code_id="c1", key_hash="9" * 64))
    assert isinstance(decision.verdict, Nothing)


def test_the_same_device_goes_on_from_what_it_has() -> None:
    resumed = after(ALARMED, CarryOn())
    assert (resumed.alarm, resumed.stale, resumed.readmit) == (Alarm.NONE, None, True)
    assert resumed.base == INTENT.serial
    assert resumed.certificates == ALARMED.certificates
    assert resumed.code_conflict


def test_there_is_nothing_to_carry_on_from_without_an_alarm() -> None:
    assert isinstance(lifecycle.decide(DEVICE, CarryOn()).verdict, Nothing)


def test_carrying_on_does_not_bring_back_a_revoked_device() -> None:
    revoked = after(ALARMED, Revoke())
    assert after(revoked, CarryOn()).revoked


@pytest.mark.parametrize("device", [DEVICE, ALARMED, replace(DEVICE, revoked=True, readmit=True)])
def test_a_replaced_device_has_one_fresh_code_and_nothing_else(device: Device) -> None:
    replaced = after(device, Replace(code_id="c9"))
    assert {one.state for one in replaced.certificates} == {State.REVOKED}
    assert replaced.codes == (Code(code_id="c9"),)
    assert (replaced.alarm, replaced.stale, replaced.revoked) == (Alarm.NONE, None, False)
    assert (replaced.code_conflict, replaced.readmit) == (False, False)
    assert replaced.base == INTENT.serial


def test_a_conflict_can_be_dismissed() -> None:
    assert not after(ALARMED, DismissConflict()).code_conflict
