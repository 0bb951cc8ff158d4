"""Operators' routes of acts on all devices that fit a query; revoking them stands with the certificates."""

from datetime import timedelta

from device_agent.wire.fields import Fields
from fleet.core.query_text import LONGEST_QUERY
from fleet.model import Role
from fleet.ra.acts.resuming import resume_all
from fleet.ra.acts.suspending import SuspendOrder, suspend_or_propose
from fleet.ra.requests.renewing import RenewOrder, renew_or_propose
from fleet.web.api.asked import Asked
from fleet.web.api.certificates import cut_off
from fleet.web.api.routes import Members, One, Route

_LONGEST_REASON = 200
_WITHIN_HOURS = 24
_MAX_HOURS = 8760


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="POST",
            path="suspensions",
            role=Role.OPERATOR,
            handler=_suspend,
            about="Keep all devices out that fit a query, until each is resumed.",
            body=("query", "reason"),
            needs=frozenset({"query"}),
            answer=One("Suspended"),
        ),
        Route(
            method="POST",
            path="resumptions",
            role=Role.SECURITY,
            handler=_resume,
            about="Let all devices go on that fit a query and are suspended; those with an alarm stay out.",
            body=("query", "reason"),
            needs=frozenset({"query"}),
            answer=One("Resumed"),
        ),
        Route(
            method="POST",
            path="renewals",
            role=Role.OPERATOR,
            handler=_renew,
            about="Have all devices that fit a query renew before their time, spread over some hours.",
            body=("query", "within_hours", "reason"),
            needs=frozenset({"query"}),
            answer=One("Renewing"),
        ),
    )


async def _suspend(asked: Asked) -> Members:
    body = asked.body()
    order = SuspendOrder(query=body.text("query", longest=LONGEST_QUERY), reason=_reason(body))
    done = await suspend_or_propose(asked.context, order, actor=asked.actor)
    return {
        "suspended": list(done.names),
        "passed_over": list(done.passed_over),
        "sessions": [cut_off(session) for session in done.cut_offs],
    }


async def _resume(asked: Asked) -> Members:
    body = asked.body()
    query = body.text("query", longest=LONGEST_QUERY)
    done = await resume_all(asked.context, query, actor=asked.actor, reason=_reason(body))
    return {"resumed": list(done.names), "passed_over": list(done.passed_over)}


async def _renew(asked: Asked) -> Members:
    body = asked.body()
    hours = _WITHIN_HOURS
    if "within_hours" in body:
        hours = body.integer("within_hours", lowest=0, highest=_MAX_HOURS)
    order = RenewOrder(
        query=body.text("query", longest=LONGEST_QUERY), within=timedelta(hours=hours), reason=_reason(body)
    )
    done = await renew_or_propose(asked.context, order, actor=asked.actor)
    return {"found": done.found, "hastened": done.hastened}


def _reason(body: Fields) -> str:
    return body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""
