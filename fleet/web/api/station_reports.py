"""Operators' routes of what stations made, and of what is wrong with it."""

from dataclasses import asdict

from fleet.model import Role
from fleet.ra.people import station_report
from fleet.store.station_report import By, ReportQuery
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, Page, Route, listed


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="stations/report",
            role=Role.VIEWER,
            handler=_report,
            about="What stations made, counted by station, batch, operator, reason or attempt.",
            query=("by", "station", "batch"),
            answer=Page("StationYield"),
        ),
        Route(
            method="GET",
            path="stations/findings",
            role=Role.VIEWER,
            handler=_findings,
            about="What is wrong with what stations made: gaps, duplicates, clones, units over quota.",
            query=("station",),
            answer=Page("StationFinding"),
        ),
    )


async def _report(asked: Asked) -> Members:
    query = asked.query()
    wanted = ReportQuery(
        by=query.word("by", of=By) or By.STATION, station=query.text("station"), batch=query.text("batch")
    )
    found, following = page_of(
        await station_report.report(asked.context, wanted), query, key=lambda line: line.name
    )
    return listed([asdict(line) for line in found], following)


async def _findings(asked: Asked) -> Members:
    query = asked.query()
    everything = await station_report.suspects(asked.context, query.text("station"))
    found, following = page_of(everything, query, key=lambda one: f"{one.station} {one.kind} {one.about}")
    return listed([asdict(one) for one in found], following)
