"""Operators' routes of the policy: what a change would do, and the change itself."""

from device_agent.wire.fields import time_text
from fleet.core.ruling import Ruling
from fleet.model import Role
from fleet.ra.requests.dry_run import Difference, try_on
from fleet.ra.requests.policy import apply_policy, proposed
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route, time_or_none

_LONGEST_CONFIG = 256 * 1024


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="POST",
            path="policy/test",
            role=Role.OPERATOR,
            handler=_test,
            about="Try a fleet.toml on the requests on record; an empty body is the home's. Changes nothing.",
            file="application/toml",
            longest=_LONGEST_CONFIG,
            answer=One("DryRun"),
        ),
        Route(
            method="POST",
            path="policy/apply",
            role=Role.SECURITY,
            handler=_apply,
            about="Put the profiles and the policy of the home's fleet.toml in force.",
            answer=One("PolicyApplied"),
        ),
    )


async def _test(asked: Asked) -> Members:
    report = await try_on(asked.context, proposed(asked.context, asked.file()))
    return {
        "requests": report.requests,
        "undecided": report.undecided,
        "since": time_or_none(report.since),
        "different": report.different,
        "items": [_difference(each) for each in report.differences],
    }


async def _apply(asked: Asked) -> Members:
    asked.body()
    applied = await apply_policy(asked.context, actor=asked.actor)
    return {"changed": applied.changed, "profiles": applied.profiles}


def _difference(found: Difference) -> Members:
    return {
        "domain": found.facts.identity.domain,
        "device_id": found.facts.identity.device_id,
        "step": found.facts.step.value,
        "before": _ruling(found.before),
        "after": _ruling(found.after),
        "why": found.why,
        "times": found.times,
        "last_at": time_text(found.last_at),
    }


def _ruling(ruling: Ruling) -> Members:
    return {
        "outcome": ruling.outcome.value,
        "code": None if ruling.code is None else ruling.code.value,
        "reason": ruling.reason or None,
        "terms": None if ruling.terms is None else dict(ruling.terms.told()),
    }
