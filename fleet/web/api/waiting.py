"""Operators' routes of the queue: who waits for approval, and the two answers to it."""

from collections.abc import Awaitable
from datetime import datetime
from typing import Protocol

from device_agent.wire.fields import time_text
from device_agent.wire.problems import MalformedMessageError
from fleet.model import Role
from fleet.ra.context import Context
from fleet.ra.devices import Outcome
from fleet.ra.requests import approvals
from fleet.ra.requests.approvals import Choice
from fleet.ra.requests.queue import SHORT_CODE, ends_at
from fleet.store.waiting import Waiting
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.certificates import cut_off
from fleet.web.api.routes import Handler, Members, One, Page, Route, listed

_LONGEST_REASON = 200
_MOST_WAITING = 100_000


class _Answer(Protocol):
    def __call__(self, desk: Context, choice: Choice, *, actor: str, reason: str) -> Awaitable[Outcome]: ...


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    waiting = Route(
        method="GET",
        path="waiting",
        role=Role.VIEWER,
        handler=_list,
        about="Requests that wait for approval, the longest waiting first.",
        answer=Page("Waiting"),
    )
    answers: tuple[tuple[str, _Answer, str], ...] = (
        ("approve", approvals.approve, "Let a device in that waits"),
        ("reject", approvals.reject, "Refuse a device that waits"),
    )
    return (
        waiting,
        *(
            Route(
                method="POST",
                path=f"waiting/{{short_code}}/{verb}",
                role=Role.SECURITY,
                handler=_by_code(answer),
                about=f"{about}, by the short code that it shows.",
                body=("reason",),
                answer=One("Outcome"),
            )
            for verb, answer, about in answers
        ),
        *(
            Route(
                method="POST",
                path=f"devices/{{domain}}/{{device_id}}/{verb}",
                role=Role.SECURITY,
                handler=_by_name(answer),
                about=f"{about}, by its name.",
                body=("reason", "key_hash"),
                answer=One("Outcome"),
            )
            for verb, answer, about in answers
        ),
    )


async def _list(asked: Asked) -> Members:
    everybody = await approvals.list_waiting(asked.context, _MOST_WAITING)
    found, following = page_of(everybody, asked.query(), key=_queued)
    now = asked.context.clock()
    return listed([waiting_members(request, now=now) for request in found], following)


def _by_code(answer: _Answer) -> Handler:
    async def handle(asked: Asked) -> Members:
        text = asked.request.match_info["short_code"].upper()
        if not SHORT_CODE.fullmatch(text):
            raise MalformedMessageError("a short code has two groups of four letters and digits")
        plain = text.replace("-", "")
        choice = Choice(short_code=f"{plain[:4]}-{plain[4:]}")
        outcome = await answer(asked.context, choice, actor=asked.actor, reason=_reason(asked))
        return outcome_members(outcome)

    return handle


def _by_name(answer: _Answer) -> Handler:
    async def handle(asked: Asked) -> Members:
        body = asked.body()
        key_hash = body.sha256("key_hash") if "key_hash" in body else None
        choice = Choice(identity=asked.identity(), key_hash=key_hash)
        outcome = await answer(asked.context, choice, actor=asked.actor, reason=_reason(asked))
        return outcome_members(outcome)

    return handle


def _reason(asked: Asked) -> str:
    body = asked.body()
    return body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""


def waiting_members(request: Waiting, *, now: datetime) -> Members:
    """Return a request as the API tells it."""
    return {
        "domain": request.identity.domain,
        "device_id": request.identity.device_id,
        "key_hash": request.key_hash,
        "short_code": request.short_code,
        "address": request.address,
        "asked_at": time_text(request.asked_at),
        "age_seconds": int((now - request.asked_at).total_seconds()),
        "ends_at": time_text(ends_at(request)),
        "proof": request.kind.value,
        "assurance": request.assurance.word,
        "evidence": request.evidence,
        "reason": request.reason,
        "rejected_by": request.rejected_by or None,
    }


def outcome_members(outcome: Outcome) -> Members:
    """Return what an act on a device did."""
    return {
        "domain": outcome.identity.domain,
        "device_id": outcome.identity.device_id,
        "action": outcome.action,
        "sessions": [cut_off(session) for session in outcome.cut_offs],
    }


def _queued(request: Waiting) -> str:
    """Return a request's place in the queue; `/` is in none of the parts."""
    identity = request.identity
    return f"{time_text(request.asked_at)}/{identity.domain}/{identity.device_id}/{request.key_hash}"
