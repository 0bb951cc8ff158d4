"""What devices and brokers say that can be evidence against a copy."""

from dataclasses import replace

import pytest

from fleet.core import lifecycle
from fleet.core.events import Connected, Done, DoneAck, Notice, Refused
from fleet.model import Alarm, CertificateState, Device, StaleHandshake
from tests.lives import IDENTITY, certificate, serial

State = CertificateState


def line() -> Device:
    """Return a device whose certificate 1 is long gone: its grandchild 3 is current and said done at 30."""
    return Device(
        identity=IDENTITY,
        certificates=(
            certificate(1, State.SUPERSEDED_ACKED),
            certificate(2, State.SUPERSEDED_ACKED, parent=1),
            certificate(3, State.ACTIVE, parent=2),
        ),
        current=serial(3),
    )


@pytest.mark.parametrize(
    ("stamp", "alarm"), [(29, Alarm.NONE), (30, Alarm.NONE), (31, Alarm.ROLLBACK_OR_CLONE)]
)
def test_a_stale_handshake_is_evidence_only_if_it_came_after_the_drop(stamp: int, alarm: Alarm) -> None:
    decision = lifecycle.decide(line(), Refused(serial=serial(1), stamp=stamp))
    assert decision.device.alarm is alarm
    assert (decision.notice is Notice.STALE_HANDSHAKE) == bool(alarm)


def test_evidence_from_before_the_base_does_not_count() -> None:
    resolved = replace(line(), base=serial(3))
    assert not lifecycle.decide(resolved, Refused(serial=serial(1), stamp=99)).device.alarm


def test_a_second_stale_handshake_does_not_move_the_evidence() -> None:
    alarmed = lifecycle.decide(line(), Refused(serial=serial(1), stamp=31)).device
    again = lifecycle.decide(alarmed, Refused(serial=serial(1), stamp=50))
    assert again.device.stale == StaleHandshake(serial=serial(1), stamp=31)
    assert again.notice is None


def test_a_living_grandchild_of_a_stale_certificate_proves_a_clone() -> None:
    alarmed = lifecycle.decide(line(), Refused(serial=serial(1), stamp=31)).device
    decision = lifecycle.decide(alarmed, Connected(serial=serial(3), stamp=32))
    assert decision.device.alarm is Alarm.CLONE
    assert decision.notice is Notice.CLONE
    assert lifecycle.admitted(decision.device) == frozenset()


@pytest.mark.parametrize(
    ("stale", "connected"),
    [
        (Refused(serial=serial(2), stamp=31), Connected(serial=serial(3), stamp=32)),
        (Refused(serial=serial(1), stamp=31), Connected(serial=serial(3), stamp=30)),
        (Refused(serial=serial(1), stamp=31), Connected(serial=serial(2), stamp=32)),
    ],
    ids=["a direct child", "used before the stale handshake", "not the current one"],
)
def test_less_than_that_proves_no_clone(stale: Refused, connected: Connected) -> None:
    alarmed = lifecycle.decide(line(), stale).device
    assert alarmed.alarm is Alarm.ROLLBACK_OR_CLONE
    assert lifecycle.decide(alarmed, connected).device == alarmed


def test_the_first_done_counts_for_the_order() -> None:
    again = lifecycle.decide(line(), Done(serial=serial(3), stamp=99)).device
    assert again.certificates[-1].done_stamp == 30


def test_done_is_stamped_on_the_current_certificate() -> None:
    fresh = replace(line(), certificates=(*line().certificates[:2], certificate(3, State.EXPIRED_GRACE)))
    decision = lifecycle.decide(fresh, Done(serial=serial(3), stamp=41))
    assert decision.verdict == DoneAck(serial=serial(3))
    assert decision.device.certificates[-1].done_stamp == 41
