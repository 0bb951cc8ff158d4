"""Operators' routes of factory stations."""

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra.people import stations
from fleet.store.stations import StationRecord
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.routes import Members, One, Page, Route, listed, time_or_none


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="stations",
            role=Role.VIEWER,
            handler=_list,
            about="Factory stations, by name.",
            query=("domain",),
            answer=Page("Station"),
        ),
        Route(
            method="POST",
            path="stations",
            role=Role.SECURITY,
            handler=_add,
            about="Add a station; its key is in the answer, and nowhere else.",
            body=("name", "domain", "batches"),
            needs=frozenset({"name", "domain", "batches"}),
            answer=One("NewStation"),
        ),
    )


async def _list(asked: Asked) -> Members:
    query = asked.query()
    everything = await stations.list_stations(asked.context, query.domain("domain"))
    found, following = page_of(everything, query, key=lambda station: station.name)
    return listed([_station(station) for station in found], following)


async def _add(asked: Asked) -> Members:
    body = asked.body()
    new = await stations.add_station(
        asked.context,
        body.text("name", longest=32),
        domain=asked.domain(body.text("domain", longest=32)),
        batches=body.texts("batches", longest=32),
        actor=asked.actor,
    )
    return {
        **_station(new.station),
        "serial": new.own.issued.serial,
        "certificate": new.own.certificate_pem,
        "key": new.own.key_pem.decode(),
    }


def _station(station: StationRecord) -> Members:
    return {
        "station": station.name,
        "domain": station.domain,
        "batches": station.batches,
        "added_at": time_text(station.added_at),
        "closed_at": time_or_none(station.closed_at),
    }
