"""The operators' API, `/api/v1/...`: one module a noun, one table of routes, one look at the role."""

from aiohttp import web

from fleet.ra.context import Context
from fleet.web.api import (
    access,
    adoptions,
    archives,
    audit,
    authorities,
    broker,
    bulk,
    certificates,
    claims,
    connections,
    devices,
    domains,
    events,
    evidence,
    factors,
    forecast,
    health,
    inventory,
    keeping,
    keys,
    leases,
    losses,
    moves,
    notifications,
    openapi,
    own,
    people,
    policy,
    profiles,
    proposals,
    readmissions,
    rollouts,
    rollover,
    routes,
    services,
    station_reports,
    stations,
    templates,
    units,
)
from fleet.web.api.routes import Route

_NOUNS = (
    devices,
    inventory,
    bulk,
    moves,
    certificates,
    claims,
    stations,
    station_reports,
    leases,
    units,
    templates,
    people,
    proposals,
    factors,
    readmissions,
    own,
    adoptions,
    domains,
    authorities,
    losses,
    rollover,
    rollouts,
    profiles,
    policy,
    access,
    services,
    keys,
    keeping,
    audit,
    archives,
    evidence,
    events,
    broker,
    connections,
    notifications,
    health,
    forecast,
)


def table() -> tuple[Route, ...]:
    """Return every route, with who may call it."""
    return (*(route for noun in _NOUNS for route in noun.routes()), *openapi.routes(table))


def mount(app: web.Application, context: Context) -> None:
    """Add the API to an application whose middleware turns errors into problem documents."""
    events.prepare(app)
    routes.add(app, context, routes=table())
