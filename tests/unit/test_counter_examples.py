"""What simpler designs of a certificate's life got wrong, told to both real cores.

The numbers and letters are those of the list in `docs/explanation/protocol.md`.
"""

from dataclasses import replace

import pytest

from device_agent.core.events import (
    Ask,
    Dead,
    Disowned,
    Facts,
    Failed,
    MakeKey,
    ProofGiven,
    ProofRefused,
    Reported,
    Route,
    Send,
    Tick,
)
from device_agent.core.lifecycle import State as Standing
from device_agent.core.lifecycle import state_of
from device_agent.wire.replies import ReportedState
from fleet.core import events, lifecycle
from fleet.model import Alarm, Certificate, CertificateState, ClientKind, Device
from tests.exploration.agents import proof
from tests.exploration.pair import ANCHOR, Pair
from tests.exploration.server import IDENTITY, key_hash, serial

State = CertificateState
REFUSED = Facts(refused=frozenset({Route.ACTIVE, Route.PENDING}))


def plain(*certificates: Certificate, current: int = 1) -> Pair:
    """Return a plain client's server side."""
    pair = Pair.working(ClientKind.PLAIN)
    if certificates:
        pair.device = replace(pair.device, certificates=certificates, current=serial(current))
    return pair


def asks(key: int, *, parent: int) -> events.Renew:
    return events.Renew(parent=serial(parent), key_hash=key_hash(key))


# Naive designs.


def test_1_a_device_does_not_switch_before_confirmed_and_so_survives_a_time_out() -> None:
    pair = Pair.working()
    pair.get()
    pair.tell(events.Unconfirmed(serial=serial(2)))
    assert pair.holds() == 1
    assert pair.admitted() == {1}
    pair.switch()
    assert state_of(pair.record) is Standing.SETTLED
    pair.rotate()
    assert pair.admitted() == {3}


def test_2_a_device_does_not_fall_back_by_deleting_what_the_server_may_have_confirmed() -> None:
    pair = Pair.working()
    pair.get()
    pair.tell(pair.confirmation())
    pair.step(Failed())
    assert pair.step(Tick()) == (Send(ask=Ask.CONFIRM, route=Route.PENDING),)
    pair.switch()
    assert pair.holds() == 2
    assert pair.admitted() == {2}


def test_3_a_code_answers_its_key_again_and_no_second_key() -> None:
    pair = Pair.claimed()
    pair.make_key()
    assert pair.tell(pair.enrollment()) == events.Issued(serial=serial(1))
    assert pair.tell(pair.enrollment()) == events.Replay(serial=serial(1))
    other = pair.tell(events.Enroll(code_id="c1", key_hash=key_hash(9)))
    assert isinstance(other, events.Nothing)
    assert pair.device.code_conflict
    assert pair.admitted() == {1}


def test_4_a_crash_after_signing_leaves_a_record_and_a_retry_gets_another_serial() -> None:
    pair = Pair.working()
    pair.make_key()
    issue = lifecycle.decide(pair.device, pair.renewal()).verdict
    assert isinstance(issue, events.Issue)
    pair.intend(issue)
    assert pair.tell(pair.renewal()) == events.Issued(serial=serial(3))
    assert pair.states() == {1: State.ACTIVE, 2: State.VOID, 3: State.ISSUED}


def test_5_a_revocation_takes_the_unconfirmed_child() -> None:
    pair = Pair.working()
    pair.get()
    pair.tell(events.Revoke())
    assert pair.admitted() == set()


def test_5_a_revocation_takes_a_renewal_in_flight() -> None:
    pair = Pair.working()
    pair.make_key()
    request = pair.renewal()
    issue = lifecycle.decide(pair.device, request).verdict
    assert isinstance(issue, events.Issue)
    new = pair.intend(issue)
    pair.tell(events.Revoke())
    assert isinstance(pair.sign(request, new), events.Nothing)
    assert isinstance(pair.tell(request), events.Nothing)
    assert pair.admitted() == set()


def test_5_a_confirm_in_flight_brings_nothing_back() -> None:
    pair = Pair.working()
    pair.get()
    request = pair.confirmation()
    pair.tell(events.Revoke())
    assert isinstance(pair.tell(request), events.Nothing)
    assert pair.admitted() == set()


def test_6_the_allowlist_needs_no_history() -> None:
    pair = Pair.working()
    pair.get()
    remembered = Device(identity=IDENTITY, certificates=pair.device.certificates, current=pair.device.current)
    assert lifecycle.admitted(remembered) == {serial(1), serial(2)}
    pair.tell(events.Revoke())
    assert lifecycle.admitted(replace(pair.device)) == frozenset()


def test_7_a_handshake_from_before_done_is_no_evidence_however_late_it_is_told() -> None:
    pair = Pair.working()
    pair.get()
    pair.switch()
    early = pair.stamp
    pair.settle()
    pair.tell(events.Refused(serial=serial(1), stamp=early))
    assert pair.device.alarm is Alarm.NONE
    pair.refuse(1)
    assert pair.device.alarm is Alarm.ROLLBACK_OR_CLONE


def test_8_a_second_key_never_takes_the_place_of_one_that_is_pending() -> None:
    pair = Pair.working()
    pair.make_key()
    before = pair.record
    pair.make_key()
    assert pair.record == before


def test_9_a_new_anchor_is_held_from_the_same_write_as_the_certificate_under_it() -> None:
    pair = Pair.working()
    pair.record = replace(pair.record, anchors=())
    pair.make_key()
    verdict = pair.tell(pair.renewal())
    pair.step(Failed())
    assert (pair.record.anchors, state_of(pair.record)) == ((), Standing.RENEWING)
    pair.receive(verdict)
    assert (pair.record.anchors, state_of(pair.record)) == ((ANCHOR,), Standing.CONFIRMING)


# Subtler ones.


def test_a_attempts_are_counted_under_their_parent_so_that_a_reset_raises_no_alarm() -> None:
    pair = Pair.working()
    pair.get()
    pair.tell(events.Grant(code_id="c2"))
    fresh = Pair.claimed()
    fresh.device, fresh.keys = pair.device, 5
    fresh.step(ProofGiven(proof=proof("c2")))
    fresh.make_key()
    fresh.receive(fresh.tell(fresh.enrollment("c2")))
    fresh.switch()
    fresh.make_key()
    assert fresh.record.attempt == 2
    assert isinstance(fresh.tell(fresh.renewal()), events.Issued)
    assert fresh.device.alarm is Alarm.NONE


def test_b_a_slot_lost_after_the_confirm_is_made_up_for_by_the_parent() -> None:
    pair = Pair.working()
    pair.get()
    pair.tell(pair.confirmation())
    pair.record = replace(pair.record, pending=None)
    assert pair.step(Tick(facts=REFUSED)) == (Send(ask=Ask.STATUS, route=Route.RECOVERY),)
    state = lifecycle.reported(pair.device, serial(1))
    assert state is not None
    assert pair.step(Reported(serial=serial(1), state=state)) == (MakeKey(),)
    pair.get(events.Via.RECOVERY)
    pair.switch()
    pair.settle()
    assert pair.device.alarm is Alarm.NONE
    assert pair.admitted() == {3}


def test_c_a_confirm_is_answered_also_when_the_current_certificate_has_expired() -> None:
    pair = Pair.working()
    pair.get()
    pair.tell(pair.confirmation())
    pair.tell(events.Expired(serial=serial(2)))
    pair.switch()
    assert pair.holds() == 2


def test_d_after_grace_an_answer_is_repeated_and_nothing_new_is_issued() -> None:
    pair = Pair.working()
    pair.tell(events.Expired(serial=serial(1)))
    pair.make_key()
    request = pair.renewal(events.Via.RECOVERY)
    assert pair.tell(request) == events.Issued(serial=serial(2))
    pair.tell(events.GraceOver(serial=serial(1)))
    assert pair.tell(request) == events.Replay(serial=serial(2))
    assert isinstance(pair.tell(replace(request, key_hash=key_hash(9), attempt=9)), events.Nothing)


def test_e_a_late_duplicate_is_never_told_that_its_current_key_is_dead() -> None:
    pair = Pair.working()
    pair.make_key()
    request = pair.renewal()
    pair.receive(pair.tell(request))
    pair.switch()
    assert not isinstance(pair.tell(request), events.Dead)
    pair.tell(events.Expired(serial=serial(2)))
    late = replace(request, parent=serial(2), via=events.Via.RECOVERY)
    assert pair.tell(late) == events.Replay(serial=serial(2))


def test_f_an_image_with_a_key_and_no_certificate_for_it_is_not_called_a_clone() -> None:
    pair = Pair.working()
    pair.make_key()
    image = pair.record
    pair.receive(pair.tell(pair.renewal()))
    pair.switch()
    pair.settle()
    pair.record = image
    pair.refuse(1)
    pair.receive(pair.tell(pair.renewal(events.Via.RECOVERY)))
    pair.connect(2)
    assert pair.device.alarm is Alarm.ROLLBACK_OR_CLONE


def test_g_an_image_from_before_the_confirm_starts_recovery_by_itself() -> None:
    pair = Pair.working()
    image = pair.record
    pair.get()
    pair.tell(pair.confirmation())
    pair.record = image
    pair.step(Tick(facts=REFUSED))
    told = Reported(serial=serial(1), state=ReportedState.SUPERSEDED)
    assert pair.step(told) == (MakeKey(),)


def test_h_an_accepted_renewal_counts_as_done_against_an_image_two_generations_old() -> None:
    pair = Pair.working()
    pair.get()
    pair.switch()
    pair.get()
    assert pair.states()[1] is State.SUPERSEDED_ACKED
    pair.refuse(1)
    assert pair.device.alarm is Alarm.ROLLBACK_OR_CLONE


def test_i_a_clone_that_uses_the_parent_between_confirm_and_done_renews_once_before_the_alarm() -> None:
    pair = Pair.working()
    copy = Pair(pair.record, pair.device)
    copy.keys = 6
    copy.record = replace(copy.record, attempt=5)
    pair.get()
    pair.switch()
    copy.device = pair.device
    copy.get(events.Via.RECOVERY)
    copy.switch()
    assert copy.device.alarm is Alarm.NONE
    pair.device = copy.device
    pair.make_key()
    pair.receive(pair.tell(pair.renewal(events.Via.RECOVERY)))
    copy.device = pair.device
    copy.settle()
    pair.device = copy.device
    pair.refuse(1)
    assert pair.device.alarm is Alarm.ROLLBACK_OR_CLONE


# Plain clients and operators.


def test_j_a_first_use_told_late_does_not_end_what_was_issued_meanwhile() -> None:
    pair = plain()
    pair.tell(asks(2, parent=1))
    used_at = pair.stamp
    pair.tell(asks(3, parent=1))
    pair.tell(events.IssueStamped(serial=serial(3), stamp=used_at + 1))
    pair.tell(events.Connected(serial=serial(2), stamp=used_at))
    assert pair.states() == {1: State.SUPERSEDED, 2: State.ACTIVE, 3: State.ISSUED}


def test_k_a_connection_with_the_old_certificate_does_not_end_its_unused_child() -> None:
    pair = plain()
    pair.tell(asks(2, parent=1))
    pair.tell(events.IssueStamped(serial=serial(2), stamp=5))
    pair.connect(1)
    assert pair.admitted() == {1, 2}


def test_l_a_superseded_parent_gets_its_childs_answer_again() -> None:
    pair = plain()
    pair.tell(asks(2, parent=1))
    pair.connect(2)
    assert pair.tell(asks(2, parent=1)) == events.Replay(serial=serial(2))
    assert isinstance(pair.tell(asks(3, parent=1)), events.Nothing)


def test_m_a_certificate_that_expired_in_its_box_may_still_be_renewed() -> None:
    pair = plain(Certificate(serial=serial(1), key_hash=key_hash(1), state=State.ISSUED), current=0)
    pair.device = replace(pair.device, current=None)
    pair.tell(events.Expired(serial=serial(1)))
    assert pair.tell(asks(1, parent=1)) == events.Issued(serial=serial(2))
    assert pair.states() == {1: State.EXPIRED_GRACE, 2: State.ISSUED}


def test_n_a_late_duplicate_enroll_gets_nothing_beside_a_newer_current_certificate() -> None:
    pair = Pair.claimed()
    pair.make_key()
    late = pair.enrollment()
    pair.tell(late)
    pair.tell(events.Unconfirmed(serial=serial(1)))
    pair.tell(events.Grant(code_id="c2"))
    pair.step(ProofGiven(proof=proof("c2")))
    pair.make_key()
    pair.receive(pair.tell(pair.enrollment("c2")))
    pair.switch()
    assert isinstance(pair.tell(late), events.Nothing)
    assert pair.admitted() == {2}


@pytest.mark.parametrize("kind", ClientKind)
def test_o_a_connection_told_after_a_revocation_brings_nothing_back(kind: ClientKind) -> None:
    pair = plain()
    pair.device = replace(pair.device, kind=kind)
    pair.tell(events.Revoke())
    pair.connect(1)
    assert pair.states() == {1: State.REVOKED}


def test_p_grace_does_not_run_out_while_a_device_is_suspended() -> None:
    pair = Pair.working()
    pair.tell(events.Expired(serial=serial(1)))
    pair.tell(events.Suspend())
    pair.tell(events.GraceOver(serial=serial(1)))
    assert pair.states() == {1: State.EXPIRED_GRACE}


def test_q_a_suspended_device_is_never_told_to_drop_a_key() -> None:
    pair = Pair.working()
    pair.get()
    pair.tell(events.Unconfirmed(serial=serial(2)))
    pair.tell(events.Suspend())
    before = pair.record
    pair.switch()
    pair.receive(pair.tell(pair.renewal()))
    assert pair.record == before


def test_r_a_resolved_image_raises_no_alarm_again_on_old_evidence() -> None:
    pair = Pair.working()
    image = pair.record
    pair.rotate()
    pair.record = image
    pair.refuse(1)
    pair.tell(events.CarryOn())
    pair.refuse(1)
    assert pair.device.alarm is Alarm.NONE
    pair.get(events.Via.RECOVERY)
    assert (pair.record.pending, pair.device.alarm) == (None, Alarm.NONE)
    pair.get(events.Via.RECOVERY)
    pair.switch()
    pair.settle()
    assert pair.device.alarm is Alarm.NONE
    assert pair.admitted() == {3}


def test_r_a_request_that_was_in_flight_at_the_alarm_makes_no_new_evidence() -> None:
    pair = Pair.working()
    pair.make_key()
    late = pair.renewal()
    issue = lifecycle.decide(pair.device, late).verdict
    assert isinstance(issue, events.Issue)
    pair.intend(issue)
    other = replace(late, key_hash=key_hash(9))
    pair.tell(other)
    assert pair.device.alarm is Alarm.ROLLBACK_OR_CLONE
    pair.tell(events.CarryOn())
    pair.tell(late)
    pair.tell(other)
    assert pair.device.alarm is Alarm.NONE


def test_s_a_claimed_code_is_not_opened_for_a_second_key_but_replaced_by_a_fresh_one() -> None:
    pair = Pair.claimed()
    pair.tell(events.Enroll(code_id="c1", key_hash=key_hash(9)))
    pair.make_key()
    pair.tell(pair.enrollment())
    assert pair.device.code_conflict
    assert isinstance(pair.tell(events.Grant(code_id="c1")), events.Nothing)
    pair.tell(events.Replace(code_id="c2"))
    assert isinstance(pair.tell(pair.enrollment()), events.Nothing)
    assert isinstance(pair.tell(pair.enrollment("c2")), events.Issued)


def test_t_a_new_code_drops_the_pending_key() -> None:
    pair = Pair.claimed()
    pair.make_key()
    pair.tell(pair.enrollment())
    pair.tell(events.Replace(code_id="c2"))
    pair.step(ProofGiven(proof=proof("c2")))
    assert pair.record.pending is None
    pair.make_key()
    pair.receive(pair.tell(pair.enrollment("c2")))
    pair.switch()
    assert pair.admitted() == {pair.holds()}


def test_u_a_refused_code_does_not_stand_in_the_way_of_renewals() -> None:
    pair = Pair.working()
    pair.step(ProofGiven(proof=proof("wrong")))
    pair.make_key()
    assert isinstance(pair.tell(pair.enrollment("wrong")), events.Nothing)
    assert pair.record.pending is not None
    pair.step(ProofRefused(key_hash=pair.record.pending.key_hash))
    pair.rotate()
    assert pair.admitted() == {pair.holds()}


def test_v_a_code_whose_certificate_a_restored_server_does_not_know_is_shown_again_and_then_given_up() -> (
    None
):
    pair = Pair.working()
    backup = pair.device
    pair.tell(events.Grant(code_id="c2"))
    pair.step(ProofGiven(proof=proof("c2")))
    pair.make_key()
    pair.receive(pair.tell(pair.enrollment("c2")))
    pair.device = backup
    assert isinstance(pair.tell(pair.confirmation()), events.Nothing)
    pair.step(Disowned(serial=pair.confirmation().serial))
    assert state_of(pair.record) is Standing.ENROLLING
    assert isinstance(pair.tell(pair.enrollment("c2")), events.Nothing)
    assert pair.record.pending is not None
    pair.step(ProofRefused(key_hash=pair.record.pending.key_hash))
    pair.rotate()
    assert pair.admitted() == {pair.holds()}


def test_w_a_device_whose_clock_is_behind_believes_the_server_that_its_certificate_has_expired() -> None:
    pair = Pair.working()
    pair.tell(events.Expired(serial=serial(1)))
    asked = pair.step(Tick(facts=REFUSED))
    assert asked == (Send(ask=Ask.STATUS, route=Route.RECOVERY),)
    assert pair.step(Reported(serial=serial(1), state=ReportedState.EXPIRED)) == (MakeKey(),)
    pair.get(events.Via.RECOVERY)
    pair.switch()
    assert pair.admitted() == {pair.holds()}


def test_a_dead_key_is_dropped_and_the_next_one_starts_above_the_floor() -> None:
    pair = Pair.working()
    pair.make_key()
    pair.step(Dead(key_hash=key_hash(2), attempt_floor=7))
    pair.make_key()
    assert pair.record.attempt == 8
