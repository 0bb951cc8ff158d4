"""The server's tables, cell by cell."""

from dataclasses import replace

import pytest

from device_agent.wire.replies import ReportedState
from fleet.core import lifecycle
from fleet.core.events import (
    Confirm,
    Confirmed,
    Connected,
    Done,
    Event,
    Expired,
    GraceOver,
    IssueStamped,
    Noted,
    Refused,
    Renew,
    Resume,
    Revoke,
    Unconfirmed,
    Via,
)
from fleet.model import Alarm, CertificateState, ClientKind, Device
from tests.lives import IDENTITY, KINDS, certificate, device, in_words, key, serial

State = CertificateState


RENEW = Renew(parent=serial(2), key_hash=key(4), attempt=4, stamp=99)
EVENTS: dict[str, Event] = {
    "renew": RENEW,
    "renew at recovery": replace(RENEW, via=Via.RECOVERY),
    "confirm": Confirm(serial=serial(2)),
    "done": Done(serial=serial(2), stamp=99),
    "connected": Connected(serial=serial(2), stamp=99),
    "refused": Refused(serial=serial(2), stamp=99),
    "unconfirmed": Unconfirmed(serial=serial(2)),
    "expired": Expired(serial=serial(2)),
    "grace over": GraceOver(serial=serial(2)),
}
# void, issued, active, expired-unused, expired-grace, expired-final, superseded, acked, dead, revoked
AGENT = {
    "renew": (
        "not-current",
        "not-current",
        "issue",
        "not-current",
        "not-current",
        "not-current",
        "not-current",
        "not-current",
        "not-current",
        "revoked",
    ),
    "renew at recovery": (
        "not-current",
        "not-current",
        "issue",
        "not-current",
        "issue",
        "not-current",
        "issue",
        "not-current",
        "not-current",
        "revoked",
    ),
    "confirm": (
        "dead",
        "confirmed; 1 superseded, 2 active",
        "confirmed",
        "not-current",
        "confirmed",
        "confirmed",
        "not-current",
        "not-current",
        "dead",
        "revoked",
    ),
    "done": (
        "not-current",
        "not-current",
        "doneack; 1 superseded-acked",
        "not-current",
        "doneack; 1 superseded-acked",
        "doneack; 1 superseded-acked",
        "not-current",
        "not-current",
        "not-current",
        "not-current",
    ),
    "connected": ("noted",) * 10,
    "refused": ("noted",) * 7 + ("noted; alarm 1",) + ("noted",) * 2,
    "unconfirmed": ("noted", "noted; 2 dead") + ("noted",) * 8,
    "expired": ("noted", "noted; 2 dead", "noted; 2 expired-grace") + ("noted",) * 7,
    "grace over": ("noted",) * 3 + ("noted; 2 dead", "noted; 2 expired-final") + ("noted",) * 5,
}
PLAIN = {
    "renew": (
        "not-current",
        "issue; 1 superseded, 2 active",
        "issue",
        "issue; 1 superseded, 2 expired-grace",
        "issue",
        "not-current",
        "not-current",
        "not-current",
        "not-current",
        "revoked",
    ),
    "confirm": (
        "not-current",
        "confirmed; 1 superseded, 2 active",
        "confirmed",
        "not-current",
        "confirmed",
        "confirmed",
        "not-current",
        "not-current",
        "not-current",
        "revoked",
    ),
    "done": ("not-current",) * 10,
    "connected": ("noted", "noted; 1 superseded, 2 active") + ("noted",) * 8,
    "refused": ("noted",) * 10,
    "unconfirmed": ("noted",) * 10,
    "expired": ("noted", "noted; 2 expired-unused", "noted; 2 expired-grace") + ("noted",) * 7,
    "grace over": ("noted",) * 3 + ("noted; 2 dead", "noted; 2 expired-final") + ("noted",) * 5,
}
PLAIN["renew at recovery"] = PLAIN["renew"]
CELLS = [(state, name) for name in EVENTS for state in State]


@pytest.mark.parametrize(("state", "name"), CELLS)
def test_each_event_does_one_known_thing_to_an_agent(state: State, name: str) -> None:
    before = device(state)
    decision = lifecycle.decide(before, EVENTS[name])
    assert in_words(before, decision) == AGENT[name][list(State).index(state)]


@pytest.mark.parametrize(("state", "name"), CELLS)
def test_each_event_does_one_known_thing_to_a_plain_client(state: State, name: str) -> None:
    before = device(state, kind=ClientKind.PLAIN)
    decision = lifecycle.decide(before, EVENTS[name])
    assert in_words(before, decision) == PLAIN[name][list(State).index(state)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["renew", "renew at recovery", "confirm", "done"])
@pytest.mark.parametrize("state", State)
def test_a_suspended_device_is_told_to_come_later_and_loses_nothing(
    state: State, name: str, kind: ClientKind
) -> None:
    before = replace(device(state, kind=kind), suspended=True)
    decision = lifecycle.decide(before, EVENTS[name])
    assert in_words(before, decision) == "suspended"
    assert decision.device == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("state", State)
def test_a_certificate_of_another_device_gets_nothing(state: State, name: str, kind: ClientKind) -> None:
    before = Device(identity=IDENTITY, kind=kind, certificates=(certificate(7, state),))
    decision = lifecycle.decide(before, EVENTS[name])
    assert decision.device == before
    assert in_words(before, decision) in {"not-current", "noted"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVENTS)
def test_what_is_revoked_stays_revoked(name: str, kind: ClientKind) -> None:
    before = lifecycle.decide(device(State.ISSUED, kind=kind), Revoke()).device
    after = lifecycle.decide(before, EVENTS[name]).device
    assert {one.state for one in after.certificates} == {State.REVOKED}
    assert lifecycle.admitted(after) == frozenset()


@pytest.mark.parametrize(
    ("state", "count"), [(state, 1 + (state in {State.ISSUED, State.ACTIVE})) for state in State]
)
def test_a_broker_admits_what_is_issued_or_active(state: State, count: int) -> None:
    first = certificate(1, State.ACTIVE)
    found = Device(identity=IDENTITY, certificates=(first, certificate(2, state)), current=first.serial)
    assert len(lifecycle.admitted(found)) == count


@pytest.mark.parametrize(
    "kept_out",
    [
        replace(device(State.ACTIVE), suspended=True),
        replace(device(State.ACTIVE), alarm=Alarm.CLONE),
    ],
    ids=["suspended", "a clone"],
)
def test_a_broker_admits_nothing_of_a_device_that_is_kept_out(kept_out: Device) -> None:
    assert lifecycle.admitted(kept_out) == frozenset()


# Confirming.


def test_an_activation_ends_the_operators_leave_to_go_on() -> None:
    before = replace(device(State.ISSUED), readmit=True)
    decision = lifecycle.decide(before, Confirm(serial=serial(2)))
    assert decision.verdict == Confirmed(serial=serial(2))
    assert not decision.device.readmit


# Clocks.


@pytest.mark.parametrize("state", [State.EXPIRED_GRACE, State.EXPIRED_UNUSED])
def test_the_clock_of_grace_stands_still_while_a_device_is_kept_out(state: State) -> None:
    before = replace(device(state, kind=ClientKind.PLAIN), suspended=True)
    assert lifecycle.decide(before, GraceOver(serial=serial(2))).device == before
    resumed = lifecycle.decide(before, Resume()).device
    assert lifecycle.decide(resumed, GraceOver(serial=serial(2))).device != resumed


def test_a_stamp_after_an_issue_is_kept() -> None:
    decision = lifecycle.decide(device(State.ISSUED), IssueStamped(serial=serial(2), stamp=7))
    assert decision.device.certificates[-1].issued_stamp == 7
    assert decision.verdict == Noted()


# Status.


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_name_on_the_wire(state: State) -> None:
    known = {
        State.ISSUED: ReportedState.ISSUED,
        State.ACTIVE: ReportedState.ACTIVE,
        State.EXPIRED_UNUSED: ReportedState.EXPIRED,
        State.EXPIRED_GRACE: ReportedState.EXPIRED,
        State.EXPIRED_FINAL: ReportedState.EXPIRED,
        State.SUPERSEDED: ReportedState.SUPERSEDED,
        State.SUPERSEDED_ACKED: ReportedState.SUPERSEDED,
    }
    assert lifecycle.reported(device(state), serial(2)) is known.get(state, ReportedState.REVOKED)


def test_the_status_of_a_suspended_device_is_suspended() -> None:
    kept_out = replace(device(State.SUPERSEDED), suspended=True)
    assert lifecycle.reported(kept_out, serial(2)) is ReportedState.SUSPENDED


def test_a_certificate_that_is_not_on_record_has_no_status() -> None:
    assert lifecycle.reported(device(State.ACTIVE), serial(9)) is None
