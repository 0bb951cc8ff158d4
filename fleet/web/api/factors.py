"""Operators' routes of second factors: made and removed by each for himself, reset by another."""

from device_agent.wire.fields import time_text
from device_agent.wire.secret import Secret
from fleet.core.second_factor import MOST_WRONG
from fleet.errors import RefusedError
from fleet.model import Role
from fleet.ra.people import second_factor
from fleet.ra.people.operators import LOCAL
from fleet.ra.people.second_factor import CodeUse, ShownCode
from fleet.store.second_factors import FactorRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none

_LONGEST_CODE = 16
_LONGEST_REASON = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="second-factors",
            role=Role.VIEWER,
            handler=_list,
            about="Who has a second factor, and whether it counts; no secret.",
            answer=Page("SecondFactor"),
        ),
        Route(
            method="POST",
            path="second-factors",
            role=Role.VIEWER,
            handler=_enroll,
            about="Make a second factor for the operator who asks; its secret is told once, here.",
            answer=One("NewSecondFactor"),
        ),
        Route(
            method="POST",
            path="second-factors/confirm",
            role=Role.VIEWER,
            handler=_confirm,
            about="Let the second factor of the operator who asks count, by its first code.",
            body=("totp",),
            needs=frozenset({"totp"}),
            answer=One("SecondFactorChange"),
        ),
        Route(
            method="POST",
            path="second-factors/remove",
            role=Role.VIEWER,
            handler=_remove,
            about="Forget the second factor of the operator who asks, by a code of it.",
            body=("totp",),
            needs=frozenset({"totp"}),
            answer=One("SecondFactorChange"),
        ),
        Route(
            method="POST",
            path="second-factors/{name}/reset",
            role=Role.SECURITY,
            handler=_reset,
            about="Forget the second factor of another operator, who lost it or was locked out.",
            body=("reason",),
            needs=frozenset({"reason"}),
            answer=One("SecondFactorChange"),
        ),
    )


async def _list(asked: Asked) -> Members:
    everybody = await second_factor.list_factors(asked.context)
    found, following = page_of(everybody, asked.query(), key=lambda each: each.operator)
    return listed([_factor(each) for each in found], following)


async def _enroll(asked: Asked) -> Members:
    asked.body()
    name = asked.operator.name
    if name == LOCAL:
        raise RefusedError(
            "the owner of the home is never asked for a code",
            hint="fleet operator totp enroll, as an operator",
        )
    uri = await second_factor.enroll(asked.context, name, actor=asked.actor)
    return {"operator": name, "uri": uri}


async def _confirm(asked: Asked) -> Members:
    await second_factor.require_code(asked.context, _shown(asked), use=CodeUse.CONFIRM)
    return {"operator": asked.operator.name, "done": "confirmed"}


async def _remove(asked: Asked) -> Members:
    await second_factor.require_code(asked.context, _shown(asked))
    await second_factor.drop(asked.context, asked.operator.name, actor=asked.actor)
    return {"operator": asked.operator.name, "done": "removed"}


async def _reset(asked: Asked) -> Members:
    name = asked.request.match_info["name"]
    reason = asked.body().text("reason", longest=_LONGEST_REASON)
    if name == asked.operator.name:
        raise RefusedError("nobody resets a second factor of his own", hint="fleet operator totp remove")
    await second_factor.drop(asked.context, name, actor=asked.actor, reason=reason)
    return {"operator": name, "done": "reset"}


def _shown(asked: Asked) -> ShownCode:
    code = Secret(asked.body().text("totp", longest=_LONGEST_CODE))
    return ShownCode(operator=asked.operator.name, code=code, source=asked.request.remote or "")


def _factor(record: FactorRecord) -> Members:
    return {
        "operator": record.operator,
        "made_at": time_text(record.made_at),
        "confirmed_at": time_or_none(record.confirmed_at),
        "locked": record.state.wrong >= MOST_WRONG,
    }
