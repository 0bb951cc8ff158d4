"""The server's tables, cell by cell, and the two commits around a signature."""

from dataclasses import replace

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import ReportedState
from fleet.core import lifecycle
from fleet.core.events import (
    Confirm,
    Confirmed,
    Connected,
    Dead,
    Decision,
    Done,
    DoneAck,
    Enroll,
    Event,
    Expired,
    GraceOver,
    Issue,
    Issued,
    IssueStamped,
    Noted,
    Nothing,
    Notice,
    Refused,
    Renew,
    Replay,
    Resume,
    Revoke,
    Suspend,
    Unconfirmed,
    Via,
)
from fleet.model import (
    Alarm,
    Certificate,
    CertificateState,
    ClientKind,
    Code,
    Device,
    StaleHandshake,
)

State = CertificateState
IDENTITY = Identity(domain="prod", device_id="d1")
KINDS = (ClientKind.AGENT, ClientKind.PLAIN)


def serial(number: int) -> str:
    return f"{number:032x}"


def key(number: int) -> str:
    return f"{number:064x}"


def certificate(number: int, state: State, *, parent: int | None = None, attempt: int = 0) -> Certificate:
    return Certificate(
        serial=serial(number),
        key_hash=key(number),
        state=state,
        attempt=attempt,
        parent=None if parent is None else serial(parent),
        done_stamp=number * 10 if state is State.ACTIVE else None,
    )


# What is shown is number 2, child of 1. Where 2 was replaced, 3 is its child and current.
_IS_CURRENT = {State.ACTIVE, State.EXPIRED_GRACE, State.EXPIRED_FINAL}
_WAS_CURRENT = {State.SUPERSEDED, State.SUPERSEDED_ACKED}


def device(state: State, *, kind: ClientKind = ClientKind.AGENT) -> Device:
    """Return a device whose certificate 2 is in this state, as the tables would have left it."""
    shown = certificate(2, state, parent=1, attempt=2)
    first = certificate(1, State.SUPERSEDED)
    if state in _IS_CURRENT:
        return Device(identity=IDENTITY, kind=kind, certificates=(first, shown), current=shown.serial)
    if state in _WAS_CURRENT:
        current = certificate(3, State.ACTIVE, parent=2, attempt=3)
        return Device(identity=IDENTITY, kind=kind, certificates=(first, shown, current), current=serial(3))
    first = replace(first, state=State.REVOKED if state is State.REVOKED else State.ACTIVE)
    is_revoked = state is State.REVOKED
    return Device(
        identity=IDENTITY, kind=kind, certificates=(first, shown), current=serial(1), revoked=is_revoked
    )


def in_words(before: Device, decision: Decision) -> str:
    """Return the verdict, and what changed: `what is said; which certificate became what`."""
    verdict = decision.verdict
    said = verdict.code.value if isinstance(verdict, Nothing) else type(verdict).__name__.lower()
    old = {one.serial: one.state for one in before.certificates}
    changed = [
        f"{int(one.serial, 16)} {one.state}"
        for one in decision.device.certificates
        if old.get(one.serial) is not one.state
    ]
    alarm = f"alarm {int(decision.device.alarm)}" if decision.device.alarm is not before.alarm else ""
    return "; ".join(part for part in (said, ", ".join(changed), alarm) if part)


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
    "grace over": ("noted",) * 4 + ("noted; 2 expired-final",) + ("noted",) * 5,
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


@pytest.mark.parametrize("out", [{"suspended": True}, {"alarm": Alarm.CLONE}])
def test_a_broker_admits_nothing_of_a_device_that_is_kept_out(out: dict[str, bool | Alarm]) -> None:
    found = device(State.ACTIVE)
    kept_out = replace(
        found, suspended="suspended" in out, alarm=Alarm.CLONE if "alarm" in out else Alarm.NONE
    )
    assert lifecycle.admitted(found) == {serial(2)}
    assert lifecycle.admitted(kept_out) == frozenset()


# Renewal by an agent.


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
    decision = lifecycle.decide(before, EVENTS["renew at recovery"])
    assert in_words(before, decision) == "frozen"


# Evidence.


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


# Enrolling.

ENROLL = Enroll(code_id="c1", key_hash=key(2))
AGAIN = {
    State.VOID: "issue",
    State.ISSUED: "replay",
    State.ACTIVE: "replay",
    State.EXPIRED_UNUSED: "issue",
    State.EXPIRED_GRACE: "replay",
    State.EXPIRED_FINAL: "code-invalid",
    State.SUPERSEDED: "code-invalid",
    State.SUPERSEDED_ACKED: "code-invalid",
    State.DEAD: "issue",
    State.REVOKED: "bad-key",
}


def enrolled(state: State, *, current: str | None = None) -> Device:
    """Return a device whose code brought certificate 2, now in this state."""
    found = replace(certificate(2, state), code_id="c1")
    bound = Code(code_id="c1", key_hash=key(2))
    return Device(identity=IDENTITY, certificates=(found,), codes=(bound,), current=current)


@pytest.mark.parametrize("state", State)
def test_the_same_key_comes_again_with_its_code(state: State) -> None:
    before = enrolled(state)
    assert in_words(before, lifecycle.decide(before, ENROLL)) == AGAIN[state]


def test_an_open_code_binds_the_first_key_that_comes() -> None:
    before = Device(identity=IDENTITY, codes=(Code(code_id="c1"), Code(code_id="c2")))
    decision = lifecycle.decide(before, ENROLL)
    assert decision.verdict == Issue(key_hash=key(2), code_id="c1")
    assert decision.device.codes == (Code(code_id="c1", key_hash=key(2)), Code(code_id="c2"))


def test_another_key_on_a_bound_code_is_a_conflict_that_is_told_once() -> None:
    other = replace(ENROLL, key_hash=key(9))
    first = lifecycle.decide(enrolled(State.ISSUED), other)
    assert in_words(enrolled(State.ISSUED), first) == "code-conflict"
    assert first.device.code_conflict
    assert first.notice is Notice.CODE_CONFLICT
    assert lifecycle.decide(first.device, other).notice is None


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (Device(identity=IDENTITY), "code-invalid"),
        (replace(enrolled(State.ISSUED), revoked=True), "revoked"),
        (replace(enrolled(State.ISSUED), suspended=True), "suspended"),
        (
            Device(identity=IDENTITY, codes=(Code(code_id="c1"),), alarm=Alarm.ROLLBACK_OR_CLONE),
            "frozen",
        ),
        (replace(enrolled(State.DEAD), alarm=Alarm.ROLLBACK_OR_CLONE), "frozen"),
    ],
    ids=["no code", "revoked", "suspended", "alarm, open code", "alarm, bound code"],
)
def test_who_may_not_enroll_is_told_why(before: Device, said: str) -> None:
    decision = lifecycle.decide(before, ENROLL)
    assert in_words(before, decision) == said
    assert decision.device == before


def test_a_key_that_was_revoked_is_not_certified_again() -> None:
    before = replace(enrolled(State.REVOKED), codes=(Code(code_id="c2"),))
    decision = lifecycle.decide(before, Enroll(code_id="c2", key_hash=key(2)))
    assert in_words(before, decision) == "bad-key"


def test_a_fresh_code_ends_what_an_older_one_left_unconfirmed() -> None:
    before = replace(enrolled(State.ISSUED), codes=(Code(code_id="c1", key_hash=key(2)), Code(code_id="c2")))
    request = Enroll(code_id="c2", key_hash=key(3))
    decision = lifecycle.decide(before, request)
    assert isinstance(decision.verdict, Issue)
    intended = lifecycle.intend(decision.device, decision.verdict, serial=serial(3), anchor="root")
    assert lifecycle.admitted(lifecycle.signed(intended, request, serial=serial(3)).device) == {serial(3)}


# Confirming.


def test_a_dead_certificate_of_a_key_that_has_a_newer_one_is_answered_by_that_one() -> None:
    newer = replace(certificate(3, State.ISSUED), key_hash=key(2), code_id="c1")
    both = replace(enrolled(State.DEAD), certificates=(*enrolled(State.DEAD).certificates, newer))
    assert lifecycle.decide(both, Confirm(serial=serial(2))).verdict == Replay(serial=serial(3))


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


def test_problem_codes_of_refusals_tell_a_device_to_keep_what_it_has() -> None:
    decision = lifecycle.decide(device(State.SUPERSEDED_ACKED), EVENTS["renew at recovery"])
    assert isinstance(decision.verdict, Nothing)
    assert decision.verdict.code is ProblemCode.NOT_CURRENT
