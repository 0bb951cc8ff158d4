"""Operators' routes of units that a factory station put in quarantine."""

from fleet.core.station_recall import Fate
from fleet.model import Role
from fleet.ra.people.releases import ReleaseOrder, release_unit
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route

_LONGEST_REASON = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="POST",
            path="units/{unit}/release",
            role=Role.SECURITY,
            handler=_release,
            about="Let a unit out of quarantine as it is: it was doubted, and somebody looked.",
            body=("reason",),
            answer=One("ReleasedUnit"),
        ),
        Route(
            method="POST",
            path="units/{unit}/rework",
            role=Role.OPERATOR,
            handler=_rework,
            about="Let a unit out of quarantine to be made anew, with another key.",
            body=("reason",),
            answer=One("ReleasedUnit"),
        ),
    )


async def _release(asked: Asked) -> Members:
    return await _released(asked, Fate.USE)


async def _rework(asked: Asked) -> Members:
    return await _released(asked, Fate.REWORK)


async def _released(asked: Asked, fate: Fate) -> Members:
    body = asked.body()
    order = ReleaseOrder(
        unit=asked.request.match_info["unit"],
        fate=fate,
        actor=asked.actor,
        reason=body.text("reason", longest=_LONGEST_REASON) if "reason" in body else "",
    )
    unit = await release_unit(asked.context, order)
    return {
        "station": unit.station,
        "hardware": unit.hardware,
        "device": unit.device_id,
        "fate": fate.value,
    }
