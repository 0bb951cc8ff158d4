"""Judges a request for a first certificate: proof, names, profiles, key and core, in one commit.

Where a webhook has to be asked, the commit is undone and judged again with its word.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from fleet.core import events
from fleet.core.ruling import Outcome
from fleet.model import ClientKind
from fleet.ports import Transaction, Work
from fleet.ra.context import Context
from fleet.ra.judging import Circumstances, Judged, settle
from fleet.ra.keys import KeyUse, key_refusal
from fleet.ra.requests.admission import admit
from fleet.ra.requests.applicants import Admitted, Applicant, Waits
from fleet.ra.requests.consulting import question_for, take_word
from fleet.ra.requests.leaf import Entrance, outdated, put_in_force
from fleet.ra.requests.proven import note_proof
from fleet.ra.requests.queue import wait_for_approval
from fleet.ra.requests.rulings import Question, Ruled, note_ruling, refusal_of, rule_first
from fleet.ra.webhook import AskFirstError, HookSaid
from fleet.store import claims
from fleet.store.provisioning import Provisioned
from fleet.store.stations import StationUnit, count_unit, record_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollCase:
    """The argument of the unit of work."""

    applicant: Applicant
    question: Question
    circumstances: Circumstances
    kind: ClientKind | None = None
    """What the channel knows of how its client takes part."""
    asks_webhook: bool
    said: HookSaid | None = None
    """What the webhook said, where it was asked."""
    leaf: Provisioned | None = None
    """A certificate that was signed before and waits for this: it is put in force, and none is intended."""


_Case = TypeVar("_Case", bound=EnrollCase)
_Outcome = TypeVar("_Outcome")


async def consulted(context: Context, work: Work[_Case, _Outcome], case: _Case) -> _Outcome:
    """Run a unit of work over a case; once more, with the webhook's word, where it has to be asked.

    Raises:
        RefusedError: the webhook says no, or gave no answer.
    """
    try:
        return await context.store.write(work, case)
    except AskFirstError as first:
        if context.webhook is None:
            raise
        said = await context.webhook.ask(first.question)
    return await context.store.write(work, replace(case, said=said))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the unit of work made of an admitted request."""

    event: events.Enroll
    judged: Judged
    circumstances: Circumstances
    """With the name of who asked."""
    replaced: bool = False
    """Earlier certificates of the device were revoked with it."""


async def judge_enroll(tx: Transaction, case: EnrollCase) -> Judgement | Waits:
    """Admit, check names, ask the profiles, check the key, and let the core judge: one commit.

    Raises:
        RefusedError: the proof does not admit, or the request names somebody else.
    """
    applicant = case.applicant
    found = await ruled_on(tx, case)
    if isinstance(found, Waits):
        return found
    admitted, ruled = found
    identity = admitted.device.identity
    actor = f"station:{admitted.station}" if admitted.station else f"device:{identity.name}"
    event = events.Enroll(code_id=admitted.code_id, key_hash=applicant.key_hash, kind=case.kind)
    circumstances = replace(case.circumstances, actor=actor)
    asked = _Ruled(event=event, ruled=ruled, circumstances=circumstances, leaf=case.leaf)
    judged = await _judge_ruled(tx, admitted, asked)
    await note_ruling(tx, ruled, judged.verdict, applicant.at)
    if isinstance(judged.verdict, events.Issue | events.Issued):
        if case.asks_webhook and case.said is None:
            raise AskFirstError(question_for(admitted, ruled, applicant))
        await _count(tx, admitted, judged, applicant)
        await note_proof(tx, admitted, applicant, facts=ruled.facts, actor=actor)
    return Judgement(
        event=event,
        judged=judged,
        circumstances=circumstances,
        replaced=bool(admitted.replaces) and not isinstance(judged.verdict, events.Nothing),
    )


async def ruled_on(tx: Transaction, case: EnrollCase) -> tuple[Admitted, Ruled] | Waits:
    """Judge the proof and the names, and ask the profiles; nobody is bound to anything by it.

    Raises:
        RefusedError: the proof does not admit, or the request names somebody else.
    """
    applicant, question = case.applicant, case.question
    admitted = await admit(tx, applicant)
    if isinstance(admitted, Waits):
        return admitted
    identity = admitted.device.identity
    question.csr.require_identity(identity, fleet=question.rules.fleet)
    if case.said is not None:
        await take_word(tx, identity, case.said, at=applicant.at)
    ruled = await rule_first(tx, question, identity, proved=admitted.proven.assurance)
    if ruled.ruling.outcome is Outcome.WAITS:
        await note_ruling(tx, ruled, None, applicant.at)
        return await _wait(tx, applicant, admitted)
    return admitted, ruled


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruled:
    event: events.Enroll
    ruled: Ruled
    circumstances: Circumstances
    leaf: Provisioned | None


async def _judge_ruled(tx: Transaction, admitted: Admitted, case: _Ruled) -> Judged:
    """Judge a request that the profiles have ruled on."""
    identity, circumstances = admitted.device.identity, case.circumstances
    if (refusal := refusal_of(case.ruled.ruling)) is not None:
        return Judged(verdict=refusal, identity=identity)
    use = KeyUse(
        identity=identity, key_hash=case.event.key_hash, actor=circumstances.actor, at=circumstances.at
    )
    if (refusal := await key_refusal(tx, use)) is not None:
        return Judged(verdict=refusal, identity=identity)
    entrance = Entrance(before=admitted.before, enroll=case.event, grants=admitted.grants)
    terms = case.ruled.ruling.terms
    if case.leaf is not None:
        if terms is None or terms.profile.name != case.leaf.profile:
            return Judged(verdict=outdated("the device's profile is another by now"), identity=identity)
        return await put_in_force(tx, admitted.device, entrance, circumstances, case.leaf)
    judged = await settle(tx, admitted.device, entrance.asked, circumstances, admitted.grants)
    return replace(judged, terms=terms)


async def _wait(tx: Transaction, applicant: Applicant, admitted: Admitted) -> Waits:
    return await wait_for_approval(
        tx,
        applicant,
        admitted.device.identity,
        reason="its profile wants somebody's approval",
        kind=admitted.kind,
        assurance=admitted.proven.assurance,
        evidence=admitted.proven.evidence,
    )


async def _count(tx: Transaction, admitted: Admitted, judged: Judged, applicant: Applicant) -> None:
    """Note the use of a claim, or the unit of a station."""
    identity = admitted.device.identity
    if admitted.batch:
        await claims.use_batch(tx, identity.domain, admitted.batch)
    if admitted.station:
        unit = StationUnit(
            station=admitted.station,
            identity=identity,
            outcome="enrolled",
            serial=judged.serial,
            note="",
            reported_at=applicant.at,
        )
        # What was made under a lease was counted when that was granted.
        await (record_unit if admitted.lease else count_unit)(tx, unit)
