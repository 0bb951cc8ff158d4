"""What relying parties are told: every state of a certificate by its own word, everywhere the same."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.x509 import ocsp

from device_agent.wire.identity import Identity
from device_agent.wire.replies import Confirmed, Issued
from device_agent.wire.requests import Confirm, Renew
from fleet.ca import der
from fleet.ca.ocsp import UNAUTHORIZED
from fleet.errors import BadInputError
from fleet.model import Alarm, CertificateState, Purpose, RevocationReason
from fleet.ports import Transaction
from fleet.ra.crls import list_of
from fleet.ra.devices import resume, suspend
from fleet.ra.keeping.housekeeping import tick
from fleet.ra.kept_answers import MOST, Answer, Keeping, KeptAnswers
from fleet.ra.requests.answer import answer
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.ra.status.standing import ocsp_answer
from fleet.store.devices import hold_what_is_off, load_device, save_device
from fleet.store.revocations import Hold, holds_of
from tests.desk import NOON, Desk, Unit
from tests.status import RelyingParty, ocsp_request

D1 = Identity(domain="prod", device_id="d1")
ACTOR = "operator:ada"


@pytest.fixture
def party(desk: Desk) -> RelyingParty:
    return RelyingParty(desk=desk, issuer=desk.context.authority.issuer(Purpose.DEVICE, "prod"))


async def confirmed(desk: Desk) -> Issued:
    issued = (await desk.enrolled())[1]
    assert isinstance(await answer(desk.context, desk.speaking(issued), Confirm(id="c")), Confirmed)
    return issued


async def renewed(desk: Desk, issued: Issued) -> Issued:
    request = Renew(id="r", csr=Unit(device_id="d1").csr, attempt=1)
    reply = await answer(desk.context, desk.speaking(issued), request)
    assert isinstance(reply, Issued), reply
    return reply


async def test_a_certificate_in_force_is_good(desk: Desk, party: RelyingParty) -> None:
    assert await party.everywhere((await confirmed(desk)).serial) == {"good"}


async def test_one_that_was_never_issued_is_unknown(party: RelyingParty) -> None:
    assert await party.standing("41" + "ab" * 15) == "unknown"


@pytest.mark.parametrize("reason", [one for one in RevocationReason if one.value != "certificateHold"])
async def test_a_revoked_one_is_told_with_its_reason(
    desk: Desk, party: RelyingParty, reason: RevocationReason
) -> None:
    issued = await confirmed(desk)
    await revoke(desk.context, ByDevice(identities=(D1,)), reason=reason, actor=ACTOR)
    assert await party.everywhere(issued.serial) == {reason.value}


async def test_a_superseded_one_is_told_as_that_and_brokers_are_not_told_of_it(
    desk: Desk, party: RelyingParty
) -> None:
    first = await confirmed(desk)
    second = await renewed(desk, first)
    assert await party.everywhere(first.serial) == {"good"}

    await answer(desk.context, desk.speaking(second), Confirm(id="c"))
    await tick(desk.context)

    assert await party.everywhere(first.serial) == {"superseded"}
    assert await party.everywhere(second.serial) == {"good"}
    assert not any(bytes.fromhex(first.serial) in crl for crl in desk.broker.crls)


async def test_a_suspended_device_is_on_hold_until_it_is_resumed(desk: Desk, party: RelyingParty) -> None:
    issued = await confirmed(desk)

    await suspend(desk.context, D1, actor=ACTOR)
    on_hold = await party.everywhere(issued.serial)
    await tick(desk.context)
    at_brokers = any(bytes.fromhex(issued.serial) in crl for crl in desk.broker.crls)
    await resume(desk.context, D1, actor=ACTOR)

    assert on_hold == {"certificateHold"}
    assert not at_brokers, "a refusal inside TLS would never reach the guard as evidence"
    assert await party.everywhere(issued.serial) == {"good"}


async def test_what_renewal_has_under_way_is_on_hold_too(desk: Desk, party: RelyingParty) -> None:
    first = await confirmed(desk)
    second = await renewed(desk, first)
    await suspend(desk.context, D1, actor=ACTOR)
    assert await party.everywhere(first.serial) == {"certificateHold"}
    assert await party.everywhere(second.serial) == {"certificateHold"}


async def test_a_proven_clone_is_on_hold_until_somebody_decides(desk: Desk, party: RelyingParty) -> None:
    issued = await confirmed(desk)
    await desk.context.store.write(_alarmed, Alarm.CLONE)
    desk.context.crls.note_change()
    assert await party.everywhere(issued.serial) == {"certificateHold"}
    await resume(desk.context, D1, actor=ACTOR)
    assert await party.everywhere(issued.serial) == {"good"}


async def _alarmed(tx: Transaction, level: Alarm) -> None:
    before = await load_device(tx, D1)
    assert before is not None
    await save_device(tx, before, after=replace(before, alarm=level), at=NOON)


async def test_a_hold_that_ends_in_a_revocation_is_never_lifted(desk: Desk, party: RelyingParty) -> None:
    issued = await confirmed(desk)
    await suspend(desk.context, D1, actor=ACTOR)
    desk.clock.forward(timedelta(hours=1))
    await desk.revoke("d1")
    await resume(desk.context, D1, actor=ACTOR)

    (hold,) = await desk.context.store.read(holds_of, issued.serial)
    assert await party.everywhere(issued.serial) == {"keyCompromise"}
    assert (await party.ask(issued.serial)).revocation_time_utc == NOON, "not to be relied on since the hold"
    assert (hold.held_at, hold.ended_at, hold.released) == (NOON, NOON + timedelta(hours=1), False)


async def test_a_device_that_was_suspended_before_holds_were_kept_is_on_hold_from_the_next_start_on(
    desk: Desk, party: RelyingParty
) -> None:
    issued = await confirmed(desk)
    await desk.enrolled("d2")
    await desk.context.store.write(_suspended_as_it_was, "d1")
    held = [await desk.context.store.write(hold_what_is_off, NOON) for _ in range(2)]
    assert held == [1, 0]
    assert await party.everywhere(issued.serial) == {"certificateHold"}


async def _suspended_as_it_was(tx: Transaction, device_id: str) -> None:
    await tx.execute("UPDATE devices SET suspended = 1 WHERE device_id = ?", (device_id,))


async def test_each_hold_is_remembered_with_its_times(desk: Desk) -> None:
    issued = await confirmed(desk)
    for _ in range(2):
        await suspend(desk.context, D1, actor=ACTOR)
        desk.clock.forward(timedelta(hours=1))
        await resume(desk.context, D1, actor=ACTOR)
        desk.clock.forward(timedelta(hours=1))

    assert await desk.context.store.read(holds_of, issued.serial) == tuple(
        Hold(
            serial=issued.serial,
            held_at=NOON + timedelta(hours=start),
            ended_at=NOON + timedelta(hours=start + 1),
            released=True,
        )
        for start in (0, 2)
    )


async def test_to_revoke_by_a_hold_is_refused_with_the_way_to_do_it(desk: Desk) -> None:
    await confirmed(desk)
    with pytest.raises(BadInputError, match="suspension") as caught:
        await revoke(
            desk.context,
            ByDevice(identities=(D1,)),
            reason=RevocationReason.CERTIFICATE_HOLD,
            actor=ACTOR,
        )
    assert "fleet device suspend" in (caught.value.hint or "")


async def test_an_expired_one_is_good_with_the_time_since_when_we_would_know(
    desk: Desk, party: RelyingParty
) -> None:
    issued = await confirmed(desk)
    before = await party.ask(issued.serial)
    desk.clock.forward(timedelta(days=100))
    await tick(desk.context)
    after = await party.ask(issued.serial)

    assert (before.certificate_status, len(before.single_extensions)) == (ocsp.OCSPCertStatus.GOOD, 0)
    assert (after.certificate_status, len(after.single_extensions)) == (ocsp.OCSPCertStatus.GOOD, 1)


async def test_an_expired_one_that_was_revoked_stays_so_and_leaves_the_list(
    desk: Desk, party: RelyingParty
) -> None:
    issued = await confirmed(desk)
    await desk.revoke("d1")
    await party.fetch(party.complete)
    desk.clock.forward(timedelta(days=100))
    # RFC 5280 3.3: one list that was issued after its end still names it.
    assert issued.serial in await party.listed(party.complete)
    desk.clock.forward(desk.context.config.policy.crl_lifetime / 2)
    assert issued.serial not in await party.listed(party.complete)
    assert issued.serial not in await party.listed(list_of(party.issuer.issuer_id, issued.serial))
    assert await party.standing(issued.serial) == "keyCompromise"


STATES = {
    CertificateState.VOID: "unknown",
    CertificateState.ISSUED: "good",
    CertificateState.ACTIVE: "good",
    CertificateState.EXPIRED_UNUSED: "good",
    CertificateState.EXPIRED_GRACE: "good",
    CertificateState.EXPIRED_FINAL: "good",
    CertificateState.SUPERSEDED: "superseded",
    CertificateState.SUPERSEDED_ACKED: "superseded",
    CertificateState.DEAD: "cessationOfOperation",
    CertificateState.REVOKED: "keyCompromise",
}


@pytest.mark.parametrize("state", CertificateState)
@pytest.mark.parametrize("suspended", [False, True], ids=["in service", "suspended"])
async def test_every_state_has_its_word(
    desk: Desk, party: RelyingParty, state: CertificateState, suspended: bool
) -> None:
    issued = (await desk.enrolled())[1]
    await desk.context.store.write(_stated, (issued.serial, state))
    desk.context.crls.note_change()
    if suspended:
        await suspend(desk.context, D1, actor=ACTOR)
    expected = STATES[state]
    held = suspended and expected == "good"
    assert await party.standing(issued.serial) == ("certificateHold" if held else expected)


async def _stated(tx: Transaction, moved: tuple[str, CertificateState]) -> None:
    """Bring a device's one certificate into a state, by the way that every change takes."""
    serial, state = moved
    before = await load_device(tx, D1)
    assert before is not None
    if state is CertificateState.VOID:
        await tx.execute(
            "UPDATE certificates SET state = 'void', fingerprint = NULL, der = NULL, not_after = NULL"
            " WHERE serial = ?",
            (serial,),
        )
        return
    (one,) = before.certificates
    after = replace(before, certificates=(replace(one, state=state),))
    await save_device(tx, before, after=after, at=NOON, reason=RevocationReason.KEY_COMPROMISE)


async def test_a_question_without_a_nonce_is_signed_once(desk: Desk, party: RelyingParty) -> None:
    issued = await confirmed(desk)
    first, again = await party.ask_for_bytes(issued.serial), await party.ask_for_bytes(issued.serial)
    with_nonce = await party.ask(issued.serial, nonce=b"n" * 32)
    assert first == again
    assert with_nonce.extensions[0].value.public_bytes().endswith(b"n" * 32)
    assert len(desk.context.crls.answers) == 1


async def test_a_kept_answer_is_signed_anew_before_it_grows_old_and_after_the_clock_was_set_back(
    desk: Desk, party: RelyingParty
) -> None:
    issued = await confirmed(desk)
    first = await party.ask(issued.serial)
    desk.clock.forward(timedelta(minutes=6))
    second = await party.ask(issued.serial)
    desk.clock.forward(timedelta(minutes=-30))
    third = await party.ask(issued.serial)
    assert first.next_update_utc is not None
    assert second.this_update_utc < first.next_update_utc
    assert (second.this_update_utc, third.this_update_utc) == (
        NOON + timedelta(minutes=6),
        NOON - timedelta(minutes=24),
    )


async def test_an_answer_that_changes_while_it_is_signed_is_not_kept(desk: Desk, party: RelyingParty) -> None:
    issued = await confirmed(desk)
    answers = desk.context.crls.answers
    changes = answers.changes
    await party.ask(issued.serial)
    kept = answers.find(ocsp_request(party.issuer, issued.serial), now=NOON)
    assert kept is not None
    desk.context.crls.note_superseded([issued.serial])
    answers.keep(b"question", kept, keeping=Keeping(until=NOON, serials=()), changes=changes)
    assert len(answers) == 0


async def test_a_change_of_one_certificate_leaves_the_answers_about_others(
    desk: Desk, party: RelyingParty
) -> None:
    issued = await confirmed(desk)
    other = (await desk.enrolled("d2"))[1]
    await party.ask(issued.serial, other.serial)
    await party.ask(other.serial)
    desk.context.crls.note_superseded([issued.serial])
    assert len(desk.context.crls.answers) == 1


async def test_what_is_unknown_is_asked_for_again_each_time(desk: Desk, party: RelyingParty) -> None:
    assert await party.standing("41" + "ab" * 15) == "unknown"
    assert len(desk.context.crls.answers) == 0


def test_kept_answers_are_bounded_and_the_longest_unasked_goes_first() -> None:
    kept = KeptAnswers(most=2)
    told = Answer(der=b"", this_update=NOON, next_update=NOON)
    keeping = Keeping(until=NOON + timedelta(minutes=5), serials=("41",))
    for question in (b"1", b"2"):
        kept.keep(question, told, keeping=keeping, changes=0)
    assert kept.find(b"1", now=NOON) is told
    kept.keep(b"3", told, keeping=keeping, changes=0)
    assert [kept.find(question, now=NOON) is told for question in (b"1", b"2", b"3")] == [True, False, True]
    assert MOST * 1100 < 32 * 1024 * 1024


async def test_certificates_of_two_cas_cannot_be_answered_under_one_signature(
    desk: Desk, party: RelyingParty
) -> None:
    lab = desk.context.authority.issuer(Purpose.DEVICE, "lab")
    (ours,), (theirs,) = (
        [der.content(der.elements(der.elements(ocsp_request(issuer, "41" * 16))[0])[0])]
        for issuer in (party.issuer, lab)
    )
    both = der.sequence(der.sequence(der.sequence(ours, theirs)))
    assert (await ocsp_answer(desk.context, both)).der == UNAUTHORIZED


async def test_a_root_has_no_responder_for_its_list_speaks_of_its_cas(desk: Desk) -> None:
    root = desk.context.authority.roots[0]
    issuer = replace(desk.context.authority.issuers[0], certificate=root.certificate)
    assert (await ocsp_answer(desk.context, ocsp_request(issuer, "41" * 16))).der == UNAUTHORIZED
