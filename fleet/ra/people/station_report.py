"""What stations made, and what is wrong with it: their journals against each other and our records."""

import shlex
from dataclasses import dataclass
from datetime import timedelta

from fleet.ra.desk import Desk
from fleet.store import station_journal, station_report
from fleet.store.station_report import Mismatch, MismatchQuery, ReportQuery, Yield

_ON_ITS_WAY = timedelta(minutes=5)
"""A line hands its journal in twice a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """Something that somebody has to look at; `hint` is a command that says more."""

    station: str
    kind: str
    about: str
    detail: str
    hint: str


async def report(desk: Desk, query: ReportQuery) -> tuple[Yield, ...]:
    """Return what stations made, counted."""
    return await desk.store.read(station_report.yields, query)


async def suspects(desk: Desk, station: str = "") -> tuple[Suspect, ...]:
    """Return what was found wrong with a station, or with all, and what does not agree."""
    query = MismatchQuery(station=station, settled=desk.clock() - _ON_ITS_WAY)
    recorded = await desk.store.read(station_journal.list_findings, station)
    found = [
        Mismatch(station=one.station, kind=one.kind, about=one.about, detail=one.detail) for one in recorded
    ]
    found += await desk.store.read(station_report.mismatches, query)
    return tuple(
        Suspect(station=one.station, kind=one.kind, about=one.about, detail=one.detail, hint=_hint(one))
        for one in found
    )


def _hint(one: Mismatch) -> str:
    about = shlex.quote(one.about)  # a station's word, and somebody may paste the hint into a shell
    match one.kind:
        case "clone" | "clone-online":
            return f"fleet device explain {about}"
        case "duplicate" | "missing" | "offline":
            return f"fleet cert show {about}"
        case "over-quota":
            return f"fleet station show {one.station}"
        case "rewritten":
            return f"was its disk lost: fleet station new-journal {one.station} --reason TEXT"
        case "clock":
            return "set the clock of the station, then fleet station sync there"
        case _:
            return f"fleet audit search --actor station:{one.station}"
