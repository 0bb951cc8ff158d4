"""The device's table, cell by cell: in each state each event does one known thing."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from device_agent.core.events import (
    Action,
    Answer,
    Confirmed,
    Dead,
    Disowned,
    DoneAck,
    Event,
    Facts,
    Failed,
    ForgetKey,
    KeyLost,
    KeyMade,
    MakeKey,
    ProofGiven,
    ProofRefused,
    Reported,
    Route,
    Send,
    Tick,
)
from device_agent.core.lifecycle import State, state_of, step
from device_agent.core.record import Anchor, Credential, DeviceRecord, Pending
from device_agent.wire.replies import BrokerAddress, ReportedState
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret

ANCHOR = Anchor(fingerprint="a" * 64, pem="anchor")
CODE = Proof(kind=ProofKind.CODE, code=Secret("K7QD-22XC"))
OTHER_CODE = Proof(kind=ProofKind.CODE, code=Secret("M0RE-1111"))


def key_hash(number: int) -> str:
    return f"{number:064x}"


def serial(number: int) -> str:
    return f"{number:032x}"


def credential(number: int, *, key: int) -> Credential:
    return Credential(
        key=f"key {key}",
        key_hash=key_hash(key),
        serial=serial(number),
        certificate="leaf",
        chain="chain",
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2026, 4, 1, tzinfo=UTC),
        broker=BrokerAddress(host="broker.example", port=8883, name="prod:d1"),
    )


def pending(*, certificate: int | None = None) -> Pending:
    held = None if certificate is None else credential(certificate, key=2)
    return Pending(key="key 2", key_hash=key_hash(2), attempt=2, credential=held)


ACTIVE = credential(1, key=1)
RECORDS = {
    State.BLANK: DeviceRecord(),
    State.CLAIMED: DeviceRecord(proof=CODE),
    State.ENROLLING: DeviceRecord(proof=CODE, pending=pending(), attempt=2),
    State.RENEWING: DeviceRecord(active=ACTIVE, pending=pending(), attempt=2),
    State.CONFIRMING: DeviceRecord(active=ACTIVE, pending=pending(certificate=2), attempt=2),
    State.SETTLING: DeviceRecord(active=ACTIVE, attempt=2),
    State.SETTLED: DeviceRecord(active=ACTIVE, attempt=2, drop_acked=True),
}
EVENTS: dict[str, Event] = {
    "tick": Tick(),
    "tick, due": Tick(facts=Facts(due=True)),
    "tick, expired": Tick(facts=Facts(expired=True)),
    "tick, refused": Tick(facts=Facts(refused=frozenset({Route.ACTIVE, Route.PENDING}))),
    "tick, pending refused": Tick(facts=Facts(refused=frozenset({Route.PENDING}))),
    "proof given": ProofGiven(proof=OTHER_CODE),
    "same proof given": ProofGiven(proof=CODE),
    "proof refused": ProofRefused(key_hash=key_hash(2)),
    "key made": KeyMade(key="key 3", key_hash=key_hash(3)),
    "key lost": KeyLost(key="key 2"),
    "active key lost": KeyLost(key="key 1"),
    "answer": Answer(credential=credential(3, key=2), anchors=(ANCHOR,), attempt_floor=5),
    "confirmed": Confirmed(serial=serial(2)),
    "dead": Dead(key_hash=key_hash(2), attempt_floor=5),
    "disowned": Disowned(serial=serial(2)),
    "done ack": DoneAck(serial=serial(1)),
    "superseded": Reported(serial=serial(1), state=ReportedState.SUPERSEDED),
    "expired": Reported(serial=serial(1), state=ReportedState.EXPIRED),
    "reported active": Reported(serial=serial(1), state=ReportedState.ACTIVE),
    "failed": Failed(),
}
# In the order of the states; a state alone where nothing is done.
EXPECTED = {
    "tick": (
        "blank",
        "claimed: make key",
        "enrolling: enroll by claim",
        "renewing: renew by active",
        "confirming: confirm by pending",
        "settling: done by active",
        "settled",
    ),
    "tick, due": (
        "blank",
        "claimed: make key",
        "enrolling: enroll by claim",
        "renewing: renew by active",
        "confirming: confirm by pending",
        "settling: make key",
        "settled: make key",
    ),
    "tick, expired": (
        "blank",
        "claimed: make key",
        "enrolling: enroll by claim",
        "renewing: renew by recovery",
        "confirming: confirm by pending",
        "settling: make key",
        "settled: make key",
    ),
    "tick, refused": (
        "blank",
        "claimed: make key",
        "enrolling: enroll by claim",
        "renewing: renew by recovery",
        "confirming: confirm by recovery",
        "settling: status by recovery",
        "settled: status by recovery",
    ),
    "tick, pending refused": (
        "blank",
        "claimed: make key",
        "enrolling: enroll by claim",
        "renewing: renew by active",
        "confirming: confirm by recovery, renew by active",
        "settling: done by active",
        "settled",
    ),
    "proof given": (
        "claimed: make key",
        "claimed: make key",
        "claimed: forget key 2, make key",
        "claimed: forget key 2, make key",
        "claimed: forget key 2, make key",
        "claimed: make key",
        "claimed: make key",
    ),
    "same proof given": (
        "claimed: make key",
        "claimed",
        "enrolling",
        "claimed: forget key 2, make key",
        "claimed: forget key 2, make key",
        "claimed: make key",
        "claimed: make key",
    ),
    "key made": (
        "blank: forget key 3",
        "enrolling: enroll by claim",
        "enrolling: forget key 3",
        "renewing: forget key 3",
        "confirming: forget key 3",
        "renewing: renew by active",
        "renewing: renew by active",
    ),
    # Nothing but the proof is there to go on with, as long as there is no certificate.
    "proof refused": ("blank", "claimed", "enrolling", "renewing", "confirming", "settling", "settled"),
    "key lost": ("blank", "claimed", "claimed", "settling", "settling", "settling", "settled"),
    "active key lost": ("blank", "claimed", "enrolling", "renewing", "confirming", "settling", "settled"),
    "answer": (
        "blank",
        "claimed",
        "confirming: confirm by pending",
        "confirming: confirm by pending",
        "confirming: confirm by pending",
        "settling",
        "settled",
    ),
    "confirmed": (
        "blank",
        "claimed",
        "enrolling",
        "renewing",
        "settling: forget key 1, done by active",
        "settling",
        "settled",
    ),
    "dead": (
        "blank",
        "claimed",
        "enrolling",
        "settling: forget key 2",
        "settling: forget key 2",
        "settling",
        "settled",
    ),
    # Where the certificate was renewed, the active one is there to renew it by.
    "disowned": ("blank", "claimed", "enrolling", "renewing", "confirming", "settling", "settled"),
    "done ack": ("blank", "claimed", "enrolling", "renewing", "confirming", "settled", "settled"),
    "superseded": (
        "blank",
        "claimed",
        "enrolling",
        "renewing",
        "confirming",
        "settling: make key",
        "settled: make key",
    ),
    "expired": (
        "blank",
        "claimed",
        "enrolling",
        "renewing",
        "confirming",
        "settling: make key",
        "settled: make key",
    ),
    "reported active": ("blank", "claimed", "enrolling", "renewing", "confirming", "settling", "settled"),
    "failed": ("blank", "claimed", "enrolling", "renewing", "confirming", "settling", "settled"),
}
PAIRS = [(state, name) for name in EVENTS for state in State]


def in_words(action: Action) -> str:
    match action:
        case MakeKey():
            return "make key"
        case ForgetKey(key=key):
            return f"forget {key}"
        case Send(ask=ask, route=route):
            return f"{ask} by {route}"


@pytest.mark.parametrize(("state", "name"), PAIRS)
def test_each_event_does_one_known_thing_in_each_state(state: State, name: str) -> None:
    taken = step(RECORDS[state], EVENTS[name])
    done = ", ".join(in_words(action) for action in taken.actions)
    after = state_of(taken.record)
    assert (f"{after}: {done}" if done else after) == EXPECTED[name][list(State).index(state)]


def test_every_state_has_a_record_that_is_in_it() -> None:
    assert {state: state_of(record) for state, record in RECORDS.items()} == {state: state for state in State}


@pytest.mark.parametrize("state", State)
def test_a_failure_deletes_nothing(state: State) -> None:
    assert step(RECORDS[state], Failed()).record == RECORDS[state]


@pytest.mark.parametrize("state", State)
def test_a_key_is_forgotten_only_when_the_record_to_be_written_names_it_no_more(state: State) -> None:
    for event in EVENTS.values():
        taken = step(RECORDS[state], event)
        named = {slot.key for slot in (taken.record.active, taken.record.pending) if slot is not None}
        forgotten = {action.key for action in taken.actions if isinstance(action, ForgetKey)}
        assert not named & forgotten


def test_the_key_and_its_attempt_are_written_together() -> None:
    taken = step(RECORDS[State.SETTLED], EVENTS["key made"])
    assert taken.record.attempt == 3
    assert taken.record.pending == Pending(key="key 3", key_hash=key_hash(3), attempt=3)


def test_a_key_that_comes_twice_is_not_destroyed() -> None:
    again = KeyMade(key="key 2", key_hash=key_hash(2))
    assert step(RECORDS[State.RENEWING], again).actions == ()


def test_a_certificate_and_its_anchors_are_written_together() -> None:
    taken = step(RECORDS[State.RENEWING], EVENTS["answer"])
    assert taken.record.pending == replace(pending(certificate=3), attempt=2)
    assert taken.record.anchors == (ANCHOR,)
    assert taken.record.attempt == 5


def test_an_anchor_that_is_held_is_not_held_twice() -> None:
    record = replace(RECORDS[State.RENEWING], anchors=(ANCHOR,))
    assert step(record, EVENTS["answer"]).record.anchors == (ANCHOR,)


@pytest.mark.parametrize(
    "wrong",
    [
        Answer(credential=credential(3, key=9), anchors=(), attempt_floor=9),
        Answer(credential=credential(2, key=2), anchors=(), attempt_floor=9),
        Answer(credential=credential(1, key=2), anchors=(), attempt_floor=9),
        Confirmed(serial=serial(1)),
        Confirmed(serial=serial(9)),
        Dead(key_hash=key_hash(1), attempt_floor=9),
        Dead(key_hash=key_hash(9), attempt_floor=9),
        DoneAck(serial=serial(2)),
    ],
)
def test_what_is_not_meant_for_the_slot_changes_nothing(wrong: Event) -> None:
    record = RECORDS[State.CONFIRMING]
    taken = step(record, wrong)
    assert taken.record == record
    assert taken.actions == ()


def test_what_is_reported_of_another_certificate_starts_no_recovery() -> None:
    other = Reported(serial=serial(9), state=ReportedState.SUPERSEDED)
    assert step(RECORDS[State.SETTLED], other).actions == ()


def test_a_certificate_by_a_code_that_the_server_never_heard_of_is_asked_for_again() -> None:
    record = replace(RECORDS[State.CONFIRMING], proof=CODE)
    after = step(record, EVENTS["disowned"]).record
    assert (state_of(after), after.pending) == (State.ENROLLING, pending())
    assert step(record, Disowned(serial=serial(9))).record == record


def test_a_refused_code_beside_a_certificate_is_dropped_with_its_key() -> None:
    record = replace(RECORDS[State.ENROLLING], active=ACTIVE)
    taken = step(record, EVENTS["proof refused"])
    assert taken.record == RECORDS[State.SETTLING]
    assert [in_words(action) for action in taken.actions] == ["forget key 2"]


def test_a_refusal_of_an_earlier_code_leaves_the_newer_one() -> None:
    record = replace(RECORDS[State.ENROLLING], active=ACTIVE)
    assert step(record, ProofRefused(key_hash=key_hash(9))).record == record


def test_a_code_keeps_its_key_when_the_certificate_is_dead() -> None:
    record = DeviceRecord(proof=CODE, pending=pending(certificate=2), attempt=2)
    after = step(record, EVENTS["dead"]).record
    assert after.pending == pending()
    assert state_of(after) is State.ENROLLING


def test_a_device_with_a_code_does_not_renew_by_its_old_certificate() -> None:
    record = replace(RECORDS[State.CONFIRMING], proof=CODE)
    taken = step(record, EVENTS["tick, pending refused"])
    assert [in_words(action) for action in taken.actions] == ["confirm by recovery"]


def test_a_confirmed_certificate_ends_the_proof_that_it_came_by() -> None:
    record = replace(RECORDS[State.CONFIRMING], proof=CODE, drop_acked=True)
    after = step(record, EVENTS["confirmed"]).record
    assert after.proof is None
    assert not after.drop_acked
    assert after.active == credential(2, key=2)


def test_a_certificate_renewed_with_the_same_key_keeps_that_key() -> None:
    same = replace(pending(certificate=2), key="key 1")
    taken = step(replace(RECORDS[State.CONFIRMING], pending=same), EVENTS["confirmed"])
    assert [in_words(action) for action in taken.actions] == ["done by active"]


def test_a_pending_key_that_nothing_admits_is_no_record() -> None:
    with pytest.raises(ValueError, match="a pending key needs"):
        DeviceRecord(pending=pending())
