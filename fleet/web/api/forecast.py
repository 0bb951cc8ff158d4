"""Operators' route of the forecast."""

from datetime import timedelta

from device_agent.wire.fields import time_text
from fleet.core.query_text import parse_query
from fleet.model import Role
from fleet.ra.forecast import Cut, Question, forecast
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route

_MOST_DAYS, _MOST_WEEKS = 3650, 520


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="forecast",
            role=Role.VIEWER,
            handler=_forecast,
            about="What ends when, week by week with `weeks`; and with `ca_down_days`, which devices such an"
            " outage would cut off. With `query`, of those devices alone.",
            query=("ca_down_days", "query", "weeks", "limit"),
            answer=One("Forecast"),
        ),
    )


async def _forecast(asked: Asked) -> Members:
    query = asked.query()
    days = query.number("ca_down_days", default=0, lowest=0, highest=_MOST_DAYS)
    among = query.long_text("query")
    question = Question(
        ca_down=timedelta(days=days) if days else None,
        among=parse_query(among).condition if among else None,
        weeks=query.number("weeks", default=0, lowest=0, highest=_MOST_WEEKS),
        most=query.limit(),
    )
    found = await forecast(asked.context, question)
    return {
        "at": time_text(found.at),
        "lines": [
            {"kind": one.kind, "next": one.next_day.isoformat(), "within": list(one.within)}
            for one in found.lines
        ],
        "weeks": [
            {
                "begins": week.begins.isoformat(),
                "ends": dict(week.ends),
                "renewals": week.renewals,
                "busiest_hour": week.busiest_hour,
            }
            for week in found.weeks
        ],
        "attention": list(found.attention),
        "outage": None if found.cut is None else _outage(found.cut),
    }


def _outage(cut: Cut) -> Members:
    return {
        "until": time_text(cut.outage.ends),
        "days": [{"day": one.day.isoformat(), "dark": one.dark, "lost": one.lost} for one in cut.days],
        "devices": [
            {
                "domain": one.identity.domain,
                "device_id": one.identity.device_id,
                "not_after": time_text(one.not_after),
                "lost": one.not_after < cut.outage.lost_before,
            }
            for one in cut.first
        ],
    }
