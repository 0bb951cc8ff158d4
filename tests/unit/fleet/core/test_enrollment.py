"""First certificates: one key for each code, and the same answer each time."""

from dataclasses import replace

import pytest

from fleet.core import lifecycle
from fleet.core.events import Confirm, Enroll, Issue, Notice, Replay
from fleet.model import Alarm, CertificateState, ClientKind, Code, Device
from tests.lives import IDENTITY, certificate, in_words, key, serial

State = CertificateState

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


def test_a_dead_certificate_of_a_key_that_has_a_newer_one_is_answered_by_that_one() -> None:
    newer = replace(certificate(3, State.ISSUED), key_hash=key(2), code_id="c1")
    both = replace(enrolled(State.DEAD), certificates=(*enrolled(State.DEAD).certificates, newer))
    assert lifecycle.decide(both, Confirm(serial=serial(2))).verdict == Replay(serial=serial(3))


def test_a_client_takes_part_in_its_way_from_its_new_certificate_on() -> None:
    request = replace(ENROLL, kind=ClientKind.PLAIN)
    decision = lifecycle.decide(Device(identity=IDENTITY, codes=(Code(code_id="c1"),)), request)
    assert isinstance(decision.verdict, Issue)
    intended = lifecycle.intend(decision.device, decision.verdict, serial=serial(2), anchor="root")
    assert intended.kind is ClientKind.AGENT
    issued = lifecycle.signed(intended, request, serial=serial(2)).device
    assert issued.kind is ClientKind.PLAIN
    again = lifecycle.decide(issued, replace(ENROLL, kind=ClientKind.AGENT))
    assert again.verdict == Replay(serial=serial(2))
    assert again.device.kind is ClientKind.PLAIN
