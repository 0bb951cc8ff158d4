"""Operators' routes of health: one screen, and the doctor's findings."""

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra import health
from fleet.ra.context import Context
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route, listed, time_or_none


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="status",
            role=Role.VIEWER,
            handler=_status,
            about="The fleet's health on one screen.",
            answer=One("Status"),
        ),
        Route(
            method="GET",
            path="doctor",
            role=Role.VIEWER,
            handler=_doctor,
            about="Every check, each problem with its fix.",
            answer=One("Findings"),
        ),
    )


async def _status(asked: Asked) -> Members:
    asked.query()
    context = asked.context
    found = await health.health(context)
    records = found.records
    return {
        "fleet": context.fleet,
        "domains": [domain.name for domain in context.config.domains],
        "at": time_text(found.at),
        "serving": found.serving,
        "endpoints": _endpoints(context) if found.serving else None,
        "broker": {
            "driver": found.driver,
            "sessions": found.sessions,
            "list_age_seconds": None if found.list_age is None else round(found.list_age.total_seconds(), 1),
        },
        "devices": {standing.value: count for standing, count in records.standings},
        "waiting": records.waiting,
        "admitted": records.admitted,
        "ending_soon": records.ending_soon,
        "crls_until": time_or_none(found.crls_until),
        "audit_entries": records.audit_entries,
        "unsigned": list(found.unsigned),
    }


async def _doctor(asked: Asked) -> Members:
    asked.query()
    return listed(
        [
            {"check": one.check, "ok": one.ok, "text": one.text, "fix": one.fix or None}
            for one in await health.examine(asked.context)
        ]
    )


def _endpoints(context: Context) -> Members:
    endpoints = context.endpoints
    ports = {
        "mqtt": endpoints.mqtt_port,
        "mqtt_bootstrap": endpoints.mqtt_bootstrap_port,
        "https": endpoints.https_port,
        "http": endpoints.http_port,
    }
    return {name: {"host": endpoints.host, "port": port} for name, port in ports.items()}
