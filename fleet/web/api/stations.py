"""Operators' routes of factory stations, and the list of operators."""

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra import operators, stations
from fleet.store.operators import OperatorRecord
from fleet.store.stations import StationRecord
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, Route, listed, time_or_none


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(method="GET", path="stations", role=Role.VIEWER, handler=_list),
        Route(method="POST", path="stations", role=Role.SECURITY, handler=_add),
        Route(method="GET", path="operators", role=Role.VIEWER, handler=_operators),
    )


async def _list(asked: Asked) -> Members:
    domain = asked.query("domain").domain("domain")
    found = await stations.list_stations(asked.context, domain)
    return listed([_station(station) for station in found])


async def _add(asked: Asked) -> Members:
    body = await asked.body("name", "domain", "batches")
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


async def _operators(asked: Asked) -> Members:
    asked.query()
    return listed([_operator(each) for each in await operators.list_operators(asked.context)])


def _station(station: StationRecord) -> Members:
    return {
        "station": station.name,
        "domain": station.domain,
        "batches": station.batches,
        "added_at": time_text(station.added_at),
        "closed_at": time_or_none(station.closed_at),
    }


def _operator(operator: OperatorRecord) -> Members:
    return {
        "operator": operator.name,
        "role": operator.role.value,
        "added_at": time_text(operator.added_at),
        "removed_at": time_or_none(operator.removed_at),
    }
