"""Operators' routes of acts that need a second operator: looked at, approved, rejected, withdrawn."""

from collections.abc import Awaitable, Callable

from device_agent.wire.fields import time_text
from fleet.core.proposal import ProposalState
from fleet.model import Role
from fleet.ra.acts import deciding
from fleet.ra.performers import PERFORMERS
from fleet.store.proposals import ProposalQuery, ProposalRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, require, time_or_none

_LONGEST_REASON = 200
_SAMPLE = 20
_PROPOSAL = "proposals/{proposal}"

_Deed = Callable[[Asked, ProposalRecord], Awaitable[ProposalRecord]]


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (*_shown(), *_decided())


def _shown() -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="proposals",
            role=Role.VIEWER,
            handler=_list,
            about="Acts that were proposed to a second operator, the oldest first.",
            query=("proposal_state",),
            answer=Page("Proposal"),
        ),
        Route(
            method="GET",
            path=_PROPOSAL,
            role=Role.VIEWER,
            handler=_show,
            about="What a proposal would do, or did.",
            answer=One("Proposal"),
        ),
        Route(
            method="GET",
            path=f"{_PROPOSAL}/devices",
            role=Role.VIEWER,
            handler=_devices,
            about="Every device that a proposal is about, by name.",
            answer=Page("ProposedDevice"),
        ),
    )


def _decided() -> tuple[Route, ...]:
    return tuple(
        Route(
            method="POST",
            path=f"{_PROPOSAL}/{verb}",
            role=Role.OPERATOR,
            handler=_decision(deed),
            about=about,
            body=body,
            answer=One("Proposal"),
        )
        for verb, deed, about, body in (
            ("approve", _approve, "Agree to what another operator proposed: it is done now.", ()),
            ("reject", _reject, "End what another operator proposed, without doing it.", ("reason",)),
            ("withdraw", _withdraw, "Take back what one has proposed oneself.", ("reason",)),
        )
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    wanted = ProposalQuery(
        state=query.word("proposal_state", of=ProposalState), after=query.text("after"), limit=query.limit()
    )
    found = await deciding.list_proposals(asked.context, wanted)
    following = found[-1].proposal if len(found) == wanted.limit else None
    return listed([proposal_members(record) for record in found], following)


async def _show(asked: Asked) -> Members:
    record = await _named(asked)
    describe = PERFORMERS[record.kind].describe
    shows = None if describe is None else await describe(asked.context, record)
    return {**proposal_members(record), "shows": shows}


async def _devices(asked: Asked) -> Members:
    record = await _named(asked)
    found, following = page_of(record.names, asked.query(), key=str)
    return listed([{"name": name} for name in found], following)


async def _named(asked: Asked) -> ProposalRecord:
    return await deciding.show_proposal(asked.context, asked.request.match_info["proposal"])


def _decision(deed: _Deed) -> Callable[[Asked], Awaitable[Members]]:
    async def handle(asked: Asked) -> Members:
        record = await _named(asked)
        # Whoever may not do such an act himself has no word in it.
        require(asked.operator, record.role)
        return proposal_members(await deed(asked, record))

    return handle


async def _approve(asked: Asked, record: ProposalRecord) -> ProposalRecord:
    asked.body()
    return await deciding.approve(asked.context, record.proposal, actor=asked.actor, performers=PERFORMERS)


async def _reject(asked: Asked, record: ProposalRecord) -> ProposalRecord:
    return await deciding.reject(asked.context, record.proposal, actor=asked.actor, reason=_reason(asked))


async def _withdraw(asked: Asked, record: ProposalRecord) -> ProposalRecord:
    return await deciding.withdraw(asked.context, record.proposal, actor=asked.actor, reason=_reason(asked))


def _reason(asked: Asked) -> str:
    body = asked.body()
    return body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""


def proposal_members(record: ProposalRecord) -> Members:
    """Return a proposal as JSON, with the first of its devices."""
    return {
        "proposal": record.proposal,
        "kind": record.kind.value,
        "state": record.state.value,
        "role": record.role.value,
        "proposed_by": record.proposed_by,
        "selection": record.selection,
        "parameters": dict(record.parameters),
        "reason": record.reason or None,
        "because": record.because,
        "devices": record.devices,
        "total": record.total,
        "sample": record.names[:_SAMPLE],
        "digest": record.digest,
        "shows": None,
        "proposed_at": time_text(record.proposed_at),
        "expires_at": time_text(record.expires_at),
        "decided_by": record.decided_by,
        "decided_at": time_or_none(record.decided_at),
        "outcome": record.outcome or None,
    }
