"""Plain clients: their first use speaks for them, in the order of the broker's stamps."""

from dataclasses import replace

import pytest

from device_agent.wire.identity import Identity
from fleet.core import lifecycle
from fleet.core.events import Confirm, Connected, Issue, Issued, IssueStamped, Nothing, Notice, Renew, Replay
from fleet.model import Alarm, Certificate, CertificateState, ClientKind, Code, Device

State = CertificateState


def serial(number: int) -> str:
    return f"{number:032x}"


def key(number: int) -> str:
    return f"{number:064x}"


FIRST = Certificate(serial=serial(1), key_hash=key(1), state=State.ACTIVE)
WORKING = Device(
    identity=Identity(domain="prod", device_id="d1"),
    kind=ClientKind.PLAIN,
    certificates=(FIRST,),
    current=FIRST.serial,
)


def renew(key_number: int, *, parent: int = 1) -> Renew:
    return Renew(parent=serial(parent), key_hash=key(key_number))


def issue(device: Device, request: Renew, number: int, *, stamp: int | None = None) -> Device:
    """Return the device after a renewal that got this serial."""
    decision = lifecycle.decide(device, request)
    assert isinstance(decision.verdict, Issue)
    intended = lifecycle.intend(decision.device, decision.verdict, serial=serial(number), anchor="root")
    signed = lifecycle.signed(intended, request, serial=serial(number))
    assert signed.verdict == Issued(serial=serial(number))
    if stamp is None:
        return signed.device
    return lifecycle.decide(signed.device, IssueStamped(serial=serial(number), stamp=stamp)).device


def states(device: Device) -> dict[int, State]:
    return {int(one.serial, 16): one.state for one in device.certificates}


def use(device: Device, number: int, *, stamp: int) -> Device:
    return lifecycle.decide(device, Connected(serial=serial(number), stamp=stamp)).device


def test_a_renewal_leaves_the_current_certificate_alone() -> None:
    assert states(issue(WORKING, renew(2), 2)) == {1: State.ACTIVE, 2: State.ISSUED}


def test_the_same_key_under_the_same_parent_gets_the_same_certificate() -> None:
    assert lifecycle.decide(issue(WORKING, renew(2), 2), renew(2)).verdict == Replay(serial=serial(2))


def test_the_current_key_may_be_certified_again_once_for_each_parent() -> None:
    after = issue(WORKING, renew(1), 2)
    assert lifecycle.decide(after, renew(1)).verdict == Replay(serial=serial(2))
    assert issue(use(after, 2, stamp=5), renew(1, parent=2), 3).certificates[-1].state is State.ISSUED


def test_two_unused_certificates_are_enough() -> None:
    twice = issue(issue(WORKING, renew(2), 2), renew(3), 3)
    decision = lifecycle.decide(twice, renew(4))
    assert isinstance(decision.verdict, Nothing)
    assert decision.notice is Notice.TOO_MANY_UNUSED
    assert decision.device == twice


def test_a_first_use_ends_what_was_issued_before_it() -> None:
    twice = issue(issue(WORKING, renew(2), 2, stamp=10), renew(3), 3, stamp=11)
    assert states(use(twice, 3, stamp=12)) == {1: State.SUPERSEDED, 2: State.DEAD, 3: State.ACTIVE}


@pytest.mark.parametrize("stamp", [None, 12, 13])
def test_a_use_from_before_an_issue_does_not_end_it(stamp: int | None) -> None:
    twice = issue(issue(WORKING, renew(2), 2, stamp=10), renew(3), 3, stamp=stamp)
    assert states(use(twice, 2, stamp=12)) == {1: State.SUPERSEDED, 2: State.ACTIVE, 3: State.ISSUED}


def test_a_use_of_the_parent_does_not_end_its_children() -> None:
    once = issue(WORKING, renew(2), 2, stamp=10)
    assert use(once, 1, stamp=99) == once


def test_a_use_of_the_old_does_not_end_what_a_fresh_code_brought() -> None:
    fresh = Certificate(serial=serial(2), key_hash=key(2), state=State.ISSUED, code_id="c2", issued_stamp=10)
    coded = replace(WORKING, certificates=(FIRST, fresh), codes=(Code(code_id="c2", key_hash=key(2)),))
    assert use(coded, 1, stamp=99) == coded


def test_a_renewal_over_a_new_certificate_is_its_first_use() -> None:
    once = issue(WORKING, renew(2), 2)
    after = issue(once, renew(3, parent=2), 3)
    assert states(after) == {1: State.SUPERSEDED, 2: State.ACTIVE, 3: State.ISSUED}


def test_a_word_for_it_is_its_first_use() -> None:
    once = issue(WORKING, renew(2), 2)
    after = lifecycle.decide(once, Confirm(serial=serial(2))).device
    assert states(after) == {1: State.SUPERSEDED, 2: State.ACTIVE}


@pytest.mark.parametrize("state", [State.ISSUED, State.ACTIVE, State.EXPIRED_UNUSED, State.SUPERSEDED])
def test_an_alarm_freezes_a_plain_client_too(state: State) -> None:
    shown = replace(FIRST, serial=serial(2), state=state)
    current = serial(2) if state is State.ACTIVE else None
    alarmed = replace(WORKING, certificates=(shown,), current=current, alarm=Alarm.ROLLBACK_OR_CLONE)
    decision = lifecycle.decide(alarmed, renew(3, parent=2))
    assert isinstance(decision.verdict, Nothing)
    assert decision.device == alarmed


def test_an_active_certificate_that_is_not_current_is_nobodys() -> None:
    odd = replace(WORKING, current=None)
    assert isinstance(lifecycle.decide(odd, renew(2)).verdict, Nothing)
    assert use(odd, 1, stamp=5) == odd
