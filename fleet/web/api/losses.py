"""Operators' routes of authorities that are given up: lost, in other hands, or of no use any more."""

from datetime import timedelta

from fleet.model import Role
from fleet.ra.succession.compromise import Admission, Loss, LossOrder, LossOutcome, give_up, rehearse_loss
from fleet.ra.succession.retiring import retire_authority
from fleet.ra.succession.rollover_steps import Mode
from fleet.web.api.asked import Asked, flag_of
from fleet.web.api.routes import Members, One, Route

_LONGEST_NAME = 96
_LONGEST_HOURS = 24 * 366


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="POST",
            path="authorities/{name}/give-up",
            role=Role.SECURITY,
            handler=_give_up,
            about="Give up an issuing CA whose key is lost or in other hands, and have its devices move.",
            body=("loss", "successor", "within_hours", "cut_off", "brings_key", "rehearse"),
            needs=frozenset({"loss"}),
            answer=One("GivenUp"),
        ),
        Route(
            method="POST",
            path="authorities/{name}/retire",
            role=Role.SECURITY,
            handler=_retire,
            about="Give up an issuing CA that has stopped and is in no rollover, once nobody needs it.",
            body=("rehearse",),
            answer=One("RetiredCa"),
        ),
    )


async def _give_up(asked: Asked) -> Members:
    body, context = asked.body(), asked.context
    hours = body.integer("within_hours", lowest=0, highest=_LONGEST_HOURS) if "within_hours" in body else None
    order = LossOrder(
        name=asked.request.match_info["name"],
        loss=body.word("loss", of=Loss),
        actor=asked.actor,
        at=context.clock().replace(microsecond=0),
        within=None if hours is None else timedelta(hours=hours),
        admission=Admission.CUT_OFF if flag_of(body, "cut_off") else Admission.GO_ON,
        brings_key=flag_of(body, "brings_key"),
        successor=body.text("successor", longest=_LONGEST_NAME) if "successor" in body else "",
    )
    if flag_of(body, "rehearse"):
        return _given_up(await rehearse_loss(context, order))
    return _given_up(await give_up(context, order))


async def _retire(asked: Asked) -> Members:
    mode = Mode.REHEARSE if flag_of(asked.body(), "rehearse") else Mode.ACT
    name = asked.request.match_info["name"]
    retired = await retire_authority(asked.context, name, actor=asked.actor, mode=mode)
    return {
        "name": retired.name,
        "before": retired.before.value,
        "after": retired.after.value,
        "needed_by": retired.need.count,
    }


def _given_up(outcome: LossOutcome) -> Members:
    return {
        "name": outcome.name,
        "state": outcome.state.value,
        "successor": outcome.successor,
        "revoked": outcome.revoked,
        "root": outcome.root,
        "root_knows": outcome.root_knows,
        "hastened": outcome.hastened,
        "due": outcome.due,
        "needed_by": outcome.need.count,
        "needing": list(outcome.need.names),
        "problems": list(outcome.problems),
    }
