"""An agent's renewal, and the two commits around a signature."""

from dataclasses import replace

import pytest

from fleet.core import lifecycle
from fleet.core.events import Dead, Issue, Issued, Nothing, Notice, Renew, Replay, Revoke, Suspend, Via
from fleet.model import Alarm, CertificateState, Device
from tests.lives import device, in_words, key, serial

State = CertificateState
RENEW = Renew(parent=serial(2), key_hash=key(4), attempt=4, stamp=99)


def renewed() -> Device:
    """Return a device that asked once and waits for its signature, number 3 for key 4."""
    decision = lifecycle.decide(device(State.ACTIVE), RENEW)
    assert decision.verdict == Issue(key_hash=key(4), parent=serial(2), attempt=4)
    return lifecycle.intend(decision.device, decision.verdict, serial=serial(3), anchor="root")


def test_an_intent_is_on_record_and_not_admitted() -> None:
    after = renewed()
    intent = after.certificates[-1]
    assert (intent.state, intent.anchor, intent.key_hash) == (State.VOID, "root", key(4))
    assert lifecycle.admitted(after) == {serial(2)}


def test_a_signature_on_record_is_admitted_beside_the_current_certificate() -> None:
    decision = lifecycle.signed(renewed(), RENEW, serial=serial(3))
    assert decision.verdict == Issued(serial=serial(3))
    assert lifecycle.admitted(decision.device) == {serial(2), serial(3)}


def test_an_accepted_renewal_says_that_older_slots_are_gone() -> None:
    after = lifecycle.signed(renewed(), RENEW, serial=serial(3)).device
    assert after.certificates[0].state is State.SUPERSEDED_ACKED


def test_the_same_request_gets_the_same_certificate() -> None:
    issued = lifecycle.signed(renewed(), RENEW, serial=serial(3)).device
    again = lifecycle.decide(issued, RENEW)
    assert again.verdict == Replay(serial=serial(3))
    assert again.device == issued


def test_a_request_that_was_cut_off_by_a_crash_gets_a_new_serial() -> None:
    decision = lifecycle.decide(renewed(), RENEW)
    assert isinstance(decision.verdict, Issue)
    after = lifecycle.intend(decision.device, decision.verdict, serial=serial(5), anchor="root")
    assert [one.state for one in after.certificates[-2:]] == [State.VOID, State.VOID]


def test_of_two_signatures_for_one_request_one_is_delivered() -> None:
    twice = lifecycle.intend(
        renewed(), Issue(key_hash=key(4), parent=serial(2), attempt=4), serial=serial(5), anchor="root"
    )
    first = lifecycle.signed(twice, RENEW, serial=serial(3))
    second = lifecycle.signed(first.device, RENEW, serial=serial(5))
    assert second.verdict == Replay(serial=serial(3))
    assert [one.state for one in second.device.certificates[-2:]] == [State.ISSUED, State.VOID]


def test_a_signature_that_was_overtaken_is_asked_for_again() -> None:
    newer = Renew(parent=serial(2), key_hash=key(5), attempt=5, stamp=99)
    twice = lifecycle.intend(
        renewed(), Issue(key_hash=key(5), parent=serial(2), attempt=5), serial=serial(5), anchor="root"
    )
    first = lifecycle.signed(twice, newer, serial=serial(5))
    assert first.verdict == Issued(serial=serial(5))
    second = lifecycle.signed(first.device, RENEW, serial=serial(3))
    assert second.verdict == Dead(key_hash=key(4), attempt_floor=5)
    assert second.device.certificates[-2].state is State.VOID


@pytest.mark.parametrize("meanwhile", [Suspend(), Revoke()])
def test_a_signature_is_judged_on_the_state_at_its_commit(meanwhile: Suspend | Revoke) -> None:
    after = lifecycle.decide(renewed(), meanwhile).device
    decision = lifecycle.signed(after, RENEW, serial=serial(3))
    assert isinstance(decision.verdict, Nothing)
    assert lifecycle.admitted(decision.device) == frozenset()
    assert decision.device == after


def test_a_signature_without_an_intent_is_not_delivered() -> None:
    decision = lifecycle.signed(device(State.ACTIVE), RENEW, serial=serial(9))
    assert isinstance(decision.verdict, Nothing)


def test_a_serial_below_an_earlier_one_is_refused() -> None:
    with pytest.raises(ValueError, match="above every earlier one"):
        lifecycle.intend(device(State.ACTIVE), Issue(key_hash=key(9)), serial=serial(2), anchor="root")


def test_a_newer_attempt_ends_the_older_one_at_once() -> None:
    issued = lifecycle.signed(renewed(), RENEW, serial=serial(3)).device
    newer = Renew(parent=serial(2), key_hash=key(5), attempt=5, stamp=99)
    decision = lifecycle.decide(issued, newer)
    assert isinstance(decision.verdict, Issue)
    intended = lifecycle.intend(decision.device, decision.verdict, serial=serial(5), anchor="root")
    after = lifecycle.signed(intended, newer, serial=serial(5)).device
    assert lifecycle.admitted(after) == {serial(2), serial(5)}
    assert lifecycle.decide(after, RENEW).verdict == Dead(key_hash=key(4), attempt_floor=5)


def test_an_attempt_below_the_floor_is_dead() -> None:
    issued = lifecycle.signed(renewed(), RENEW, serial=serial(3)).device
    older = Renew(parent=serial(2), key_hash=key(5), attempt=3, stamp=99)
    assert lifecycle.decide(issued, older).verdict == Dead(key_hash=key(5), attempt_floor=4)


def test_two_keys_for_one_attempt_raise_the_alarm_and_end_what_is_unconfirmed() -> None:
    issued = lifecycle.signed(renewed(), RENEW, serial=serial(3)).device
    decision = lifecycle.decide(issued, replace(RENEW, key_hash=key(5)))
    assert decision.notice is Notice.ATTEMPT_REUSED
    assert decision.device.alarm is Alarm.ROLLBACK_OR_CLONE
    assert lifecycle.admitted(decision.device) == {serial(2)}


def test_an_agent_that_counts_no_attempts_is_refused() -> None:
    decision = lifecycle.decide(device(State.ACTIVE), replace(RENEW, attempt=None))
    assert in_words(device(State.ACTIVE), decision) == "malformed"


@pytest.mark.parametrize("state", [State.ACTIVE, State.EXPIRED_GRACE, State.SUPERSEDED])
def test_an_alarm_freezes_renewals(state: State) -> None:
    before = replace(device(state), alarm=Alarm.ROLLBACK_OR_CLONE)
    decision = lifecycle.decide(before, replace(RENEW, via=Via.RECOVERY))
    assert in_words(before, decision) == "frozen"
