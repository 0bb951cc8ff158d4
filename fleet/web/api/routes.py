"""A row of the API's table of routes, and the one place where an operator's role is looked at.

No handler is reached without it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from aiohttp import web

from device_agent.wire.fields import time_text
from fleet.errors import RefusedError
from fleet.model import Role
from fleet.ra.context import Context
from fleet.web.api.asked import Asked
from fleet.web.api.who import operator_of

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
Members: TypeAlias = Mapping[str, Json]
Handler: TypeAlias = Callable[[Asked], Awaitable[Members | web.StreamResponse]]

_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.SECURITY: 2}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`path` follows `/api/v1/`; whoever has `role` or a higher one may call it."""

    method: str
    path: str
    role: Role
    handler: Handler


def add(app: web.Application, context: Context, *, routes: Sequence[Route]) -> None:
    """Add routes to an application."""
    for route in routes:
        app.router.add_route(route.method, f"/api/v1/{route.path}", _guarded(route, context))


def _guarded(route: Route, context: Context) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        operator = operator_of(request)
        if _RANK[operator.role] < _RANK[route.role]:
            raise RefusedError(
                f"{operator.name} has the role {operator.role}, and this needs {route.role}",
                hint="ask somebody who has it",
            )
        found = await route.handler(Asked(context=context, operator=operator, request=request))
        if isinstance(found, web.StreamResponse):
            return found
        return web.json_response(found, headers=_HEADERS)

    return handle


def listed(items: Sequence[Members], following: str | None = None) -> Members:
    """Return a page of a list; `following` is its cursor, None on the last page."""
    return {"items": items, "next": following}


def time_or_none(moment: datetime | None) -> str | None:
    """Return a time as text, where there is one."""
    return None if moment is None else time_text(moment)
