"""Decides on proposals: another operator approves one, and it is done once, on what was shown; or it ends.

Recorded before it is done and after: whoever is cut off in between finds it approved, and does it again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.wire.identity import Identity, parse_name
from device_agent.wire.problems import MalformedMessageError
from fleet.core.proposal import TRANSITIONS, ActKind, ProposalEvent, ProposalState, drift_of
from fleet.core.second_person import why_same_hand
from fleet.errors import FleetError, NotFoundError, RefusedError
from fleet.ports import Transaction
from fleet.ra.acts.guard import told
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.store import audit, operators, proposals
from fleet.store.proposals import ProposalQuery, ProposalRecord

OPERATOR = "operator:"
LOCAL = "operator:local"
"""The owner of the home: one person, and not on the list of operators."""
_PAGE = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Performer:
    """How acts of a kind are done once somebody else agreed; both are called again after a crash."""

    find: Callable[[Context, ProposalRecord], Awaitable[tuple[Identity, ...]]]
    """Returns what the selection names now."""
    perform: Callable[[Context, ProposalRecord, tuple[Identity, ...]], Awaitable[str]]
    """Does it to exactly these, in the name of whoever proposed it; returns what was done, on one line."""
    describe: Callable[[Context, ProposalRecord], Awaitable[str]] | None = None
    """Returns what else would be different from now, where that is more than devices; as text."""


Performers = Mapping[ActKind, Performer]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    proposal: str
    event: ProposalEvent
    actor: str
    at: datetime
    names: tuple[str, ...] | None = None
    """Of the devices that it is done to, where that is decided by it."""
    outcome: str = ""


_ACTIONS = {
    ProposalEvent.APPROVE: "proposal.approved",
    ProposalEvent.FINISH: "proposal.done",
    ProposalEvent.REJECT: "proposal.rejected",
    ProposalEvent.WITHDRAW: "proposal.withdrawn",
    ProposalEvent.EXPIRE: "proposal.expired",
    ProposalEvent.OUTDATE: "proposal.outdated",
}


async def show_proposal(desk: Desk, proposal: str) -> ProposalRecord:
    """Return a proposal; raises `NotFoundError`."""
    found = await desk.store.read(proposals.load_proposal, proposal)
    if found is None:
        raise NotFoundError(f"there is no proposal {proposal}", hint="fleet proposal list")
    return found


async def list_proposals(desk: Desk, query: ProposalQuery) -> tuple[ProposalRecord, ...]:
    """Return a page of proposals, the oldest first."""
    return await desk.store.read(proposals.list_proposals, query)


async def approve(context: Context, proposal: str, *, actor: str, performers: Performers) -> ProposalRecord:
    """Agree to what somebody else proposed, and do it; what is done already is only told again.

    Raises:
        NotFoundError: there is no such proposal.
        RefusedError: it is one's own, its time is over, it ended, or it selects something else now.
        FleetError: it is approved, and could not be done: approve it again.
    """
    async with context.turns.of(f"proposal {proposal}"):
        record = await show_proposal(context, proposal)
        if record.state is ProposalState.DONE:
            return record
        await _require_another(context, record, actor)
        if record.state is ProposalState.OPEN:
            record = await _agree(context, record, actor, performers[record.kind])
        if record.state is not ProposalState.APPROVED:
            raise _over(record)
        return await _perform(context, record, performers[record.kind])


async def reject(desk: Desk, proposal: str, *, actor: str, reason: str = "") -> ProposalRecord:
    """End what somebody else proposed, without doing it. Raises as `approve`."""
    record = await show_proposal(desk, proposal)
    await _require_another(desk, record, actor)
    return await _end(desk, record, ProposalEvent.REJECT, actor=actor, why=reason)


async def withdraw(desk: Desk, proposal: str, *, actor: str, reason: str = "") -> ProposalRecord:
    """Take back what one has proposed oneself; raises `RefusedError` for somebody else's."""
    record = await show_proposal(desk, proposal)
    if record.proposed_by != actor:
        why = f"{record.proposed_by.removeprefix(OPERATOR)} proposed it, and nobody else withdraws it"
        raise await _refused(desk, record, actor, why, hint=f"fleet proposal reject {proposal}")
    return await _end(desk, record, ProposalEvent.WITHDRAW, actor=actor, why=reason)


async def expire_proposals(desk: Desk) -> None:
    """End the proposals that nobody agreed to in their time; one that cannot be read keeps no other up."""
    for proposal in await desk.store.read(proposals.overdue, desk.clock()):
        try:
            await _take(desk, proposal, ProposalEvent.EXPIRE, actor="server")
        except FleetError as error:
            _log.warning("proposal %s cannot be ended: %s", proposal, error)


async def finish_approved(context: Context, performers: Performers) -> None:
    """Do again what was approved when the server was stopped over it.

    What cannot be done stays approved, which the trail tells: whoever approves it again has it done.
    """
    for listed in await context.store.read(
        proposals.list_proposals, ProposalQuery(state=ProposalState.APPROVED, limit=_PAGE)
    ):
        async with context.turns.of(f"proposal {listed.proposal}"):
            with suppress(FleetError, MalformedMessageError):
                record = await show_proposal(context, listed.proposal)
                await _perform(context, record, performers[record.kind])


async def _require_another(desk: Desk, record: ProposalRecord, actor: str) -> None:
    """Refuse whoever proposed it, and whatever was proposed by somebody who may no longer act."""
    if record.proposed_by == actor:
        hint = f"ask another operator of the role {record.role}: fleet operator list names them"
        raise await _refused(desk, record, actor, "nobody agrees to a proposal of one's own", hint=hint)
    name, other = record.proposed_by.removeprefix(OPERATOR), actor.removeprefix(OPERATOR)
    people = await desk.store.read(operators.load_people, None)
    if why := why_same_hand(other, people, of=frozenset({name}), since=record.proposed_at):
        hint = "ask somebody who was an operator before, and not by him; or the owner of the home"
        raise await _refused(desk, record, actor, f"it is no other hand: {why}", hint=hint)
    known = await desk.store.read(operators.load_operator, name)
    if record.proposed_by != LOCAL and (known is None or known.removed_at is not None):
        why = f"{name}, who proposed it, is no operator any more"
        raise await _refused(desk, record, actor, why, hint="propose it anew")


async def _agree(
    context: Context, record: ProposalRecord, actor: str, performer: Performer
) -> ProposalRecord:
    """Put on record that somebody else agreed, and to which devices it is done: shown, and still selected."""
    if record.expires_at <= context.clock():
        return await _end(context, record, ProposalEvent.EXPIRE, actor="server")
    found = await performer.find(context, record)
    drift = drift_of(record.names, (each.name for each in found))
    if record.names and drift.exceeds(context.config.acts.drift_percent):
        why = f"it selects {len(found)} devices now: {drift.gone} are gone, {drift.new} are new"
        return await _end(context, record, ProposalEvent.OUTDATE, actor=actor, why=why)
    return await _take(context, record.proposal, ProposalEvent.APPROVE, actor=actor, names=drift.kept)


async def _perform(context: Context, record: ProposalRecord, performer: Performer) -> ProposalRecord:
    identities = tuple(parse_name(name) for name in record.names)
    try:
        outcome = await performer.perform(context, record, identities)
    except FleetError as error:
        entry = told(record, "proposal.failed", actor="server", why=str(error))
        await context.store.write(audit.append, replace(entry, at=context.clock()))
        raise
    return await _take(context, record.proposal, ProposalEvent.FINISH, actor="server", outcome=outcome)


async def _end(
    desk: Desk, record: ProposalRecord, event: ProposalEvent, *, actor: str, why: str = ""
) -> ProposalRecord:
    """End a proposal; where that is not what was asked for, it is an error."""
    ended = await _take(desk, record.proposal, event, actor=actor, outcome=why)
    if event in {ProposalEvent.EXPIRE, ProposalEvent.OUTDATE}:
        said = "its time is over" if event is ProposalEvent.EXPIRE else why
        raise RefusedError(f"proposal {record.proposal} has ended: {said}", hint="propose it anew")
    return ended


async def _take(
    desk: Desk,
    proposal: str,
    event: ProposalEvent,
    *,
    actor: str,
    names: tuple[str, ...] | None = None,
    outcome: str = "",
) -> ProposalRecord:
    step = _Step(proposal=proposal, event=event, actor=actor, at=desk.clock(), names=names, outcome=outcome)
    return await desk.store.write(_decide, step)


async def _decide(tx: Transaction, step: _Step) -> ProposalRecord:
    """Judge a step by where the proposal stands at this very commit: of two at once, one is first."""
    record = await proposals.load_proposal(tx, step.proposal)
    assert record is not None  # noqa: S101 - it was read before, and no proposal is ever dropped
    after = TRANSITIONS.get((record.state, step.event))
    if after is None:
        raise _over(record)
    if after is record.state:
        return record
    decided = replace(record, state=after, outcome=step.outcome, decided_at=step.at)
    if step.event is not ProposalEvent.FINISH:
        decided = replace(decided, decided_by=step.actor)
    # The entry tells how many were shown; what is done from now on is done to those that are left of them.
    await audit.append(
        tx, replace(told(record, _ACTIONS[step.event], actor=step.actor, why=step.outcome), at=step.at)
    )
    await proposals.save_decision(tx, decided)
    if step.names is not None:
        decided = replace(decided, names=step.names, devices=len(step.names))
        await proposals.narrow(tx, decided)
    return decided


def _over(record: ProposalRecord) -> RefusedError:
    return RefusedError(f"proposal {record.proposal} is {record.state} already", hint="fleet proposal list")


async def _refused(desk: Desk, record: ProposalRecord, actor: str, why: str, *, hint: str) -> RefusedError:
    """Put a refusal on the trail, and return its error."""
    entry = replace(told(record, "proposal.refused", actor=actor, why=why), at=desk.clock())
    await desk.store.write(audit.append, entry)
    return RefusedError(f"proposal {record.proposal}: {why}", hint=hint)
