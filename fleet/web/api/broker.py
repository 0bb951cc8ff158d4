"""Operators' routes of the broker: what it is, what it holds, who is connected."""

from device_agent.wire.fields import time_text
from fleet.errors import RefusedError, UnreachableError
from fleet.model import Role, Session
from fleet.ra.authority.beginning import SERVICE_NAME
from fleet.ra.context import Context
from fleet.ra.status.publishing import publish
from fleet.store import allowlist
from fleet.web.api.asked import Asked, page_of
from fleet.web.api.certificates import cut_off
from fleet.web.api.routes import Members, One, Page, Route, listed

_LONGEST_NAME = 100


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="broker",
            role=Role.VIEWER,
            handler=_show,
            about="The broker, its listeners, and how fresh its list is.",
            answer=One("Broker"),
        ),
        Route(
            method="POST",
            path="broker/apply",
            role=Role.OPERATOR,
            handler=_apply,
            about="Give the broker the whole list again, and its CRLs.",
            answer=One("Broker"),
        ),
        Route(
            method="GET",
            path="broker/sessions",
            role=Role.VIEWER,
            handler=_sessions,
            about="Live sessions, by name.",
            answer=Page("Session"),
        ),
        Route(
            method="POST",
            path="broker/kick",
            role=Role.OPERATOR,
            handler=_kick,
            about="End the live sessions of a broker name; they may come back.",
            body=("name",),
            needs=frozenset({"name"}),
            answer=Page("CutOff"),
        ),
    )


async def _show(asked: Asked) -> Members:
    asked.query()
    return await _members(asked.context)


async def _apply(asked: Asked) -> Members:
    asked.body()
    _require_broker(asked.context)
    await asked.context.broker.synchronise()
    await publish(asked.context)
    return await _members(asked.context)


async def _sessions(asked: Asked) -> Members:
    _require_broker(asked.context)
    everybody = await asked.context.broker.sessions()
    found, following = page_of(
        everybody, asked.query(), key=lambda one: f"{one.name}/{one.broker}/{one.client_id}"
    )
    return listed([_session(session) for session in found], following)


async def _kick(asked: Asked) -> Members:
    body = asked.body()
    _require_broker(asked.context)
    name = body.text("name", longest=_LONGEST_NAME)
    if name == SERVICE_NAME:
        raise RefusedError(f"{name} is this server itself", hint="fleet broker sessions names the others")
    found = await asked.context.broker.kick(name)
    return listed([cut_off(session) for session in found])


def _require_broker(context: Context) -> None:
    if not context.broker.brokers:
        raise UnreachableError("no server of this home runs, so nothing is connected", hint="fleet serve")


async def _members(context: Context) -> Members:
    listed_now = await context.store.read(allowlist.snapshot, None)
    running = bool(context.broker.brokers)
    age = context.broker.age()
    return {
        "driver": context.driver,
        "running": running,
        "host": context.endpoints.host,
        "mqtt_port": context.endpoints.mqtt_port,
        "mqtt_bootstrap_port": context.endpoints.mqtt_bootstrap_port,
        "sequence": listed_now.sequence,
        "entries": len(listed_now.entries),
        "age_seconds": None if age is None else round(age.total_seconds(), 1),
        "sessions": len(await context.broker.sessions()) if running else None,
    }


def _session(session: Session) -> Members:
    return {
        "broker": session.broker,
        "name": session.name,
        "client_id": session.client_id,
        "issuer": session.issuer,
        "serial": session.serial,
        "address": session.address,
        "connected_at": time_text(session.connected_at),
    }
