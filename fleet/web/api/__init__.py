"""The operators' API, `/api/v1/...`: one module a noun, one table of routes, one look at the role."""

from aiohttp import web

from fleet.ra.context import Context
from fleet.web.api import audit, broker, certificates, claims, devices, health, routes, stations


def mount(app: web.Application, context: Context) -> None:
    """Add the API to an application whose middleware turns errors into problem documents."""
    nouns = (devices, certificates, claims, stations, audit, broker, health)
    routes.add(app, context, routes=[route for noun in nouns for route in noun.routes()])
