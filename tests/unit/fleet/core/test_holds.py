"""What relying parties are told of a device's certificates is a function of its record."""

from dataclasses import replace

import pytest

from device_agent.wire.identity import Identity
from fleet.core.lineage import admitted, held, retold
from fleet.model import Alarm, Certificate, CertificateState, Device

D1 = Identity(domain="prod", device_id="d1")
ENDED = {
    CertificateState.VOID,
    CertificateState.SUPERSEDED,
    CertificateState.SUPERSEDED_ACKED,
    CertificateState.DEAD,
    CertificateState.REVOKED,
}


def device(*states: CertificateState, suspended: bool = False, alarm: Alarm = Alarm.NONE) -> Device:
    certificates = tuple(
        Certificate(serial=f"{0x41 + number:02x}" * 16, key_hash="0" * 64, state=state)
        for number, state in enumerate(states)
    )
    return Device(identity=D1, certificates=certificates, suspended=suspended, alarm=alarm)


@pytest.mark.parametrize("state", CertificateState)
@pytest.mark.parametrize("alarm", Alarm)
@pytest.mark.parametrize("suspended", [False, True])
def test_on_hold_is_what_a_device_that_is_off_would_go_on_with(
    state: CertificateState, alarm: Alarm, suspended: bool
) -> None:
    found = device(state, suspended=suspended, alarm=alarm)
    is_off = suspended or alarm is Alarm.CLONE
    assert bool(held(found)) is (is_off and state not in ENDED)
    assert not held(found) & admitted(found), "no certificate is on hold and let in"


@pytest.mark.parametrize("before", CertificateState)
@pytest.mark.parametrize("after", CertificateState)
def test_a_change_of_state_is_told_where_the_lists_say_something_else(
    before: CertificateState, after: CertificateState
) -> None:
    listed = ENDED - {CertificateState.VOID}
    acked = {CertificateState.SUPERSEDED, CertificateState.SUPERSEDED_ACKED}
    is_told = before is not after and bool({before, after} & listed) and {before, after} != acked
    assert bool(retold(device(before), device(after))) is is_told


def test_suspension_and_its_end_are_told_of_what_is_held_alone() -> None:
    running = device(CertificateState.SUPERSEDED, CertificateState.ACTIVE)
    off = replace(running, suspended=True)
    assert retold(running, off) == retold(off, running) == {"42" * 16}
    assert retold(running, running) == frozenset()
    assert retold(device(), device(CertificateState.ISSUED)) == frozenset(), "a new one is on no list"
