"""A row of the API's table of routes, and the one place where an operator's role is looked at.

No handler is reached without it, and none sees a member of path, query or body that its row does not name.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from aiohttp import web

from device_agent.wire.fields import MAX_BODY_BYTES, time_text
from fleet.errors import RoleError
from fleet.model import Role
from fleet.ra.context import Context
from fleet.web.api.asked import Asked
from fleet.web.api.coded import CodeNeededError, needed_response, require_factor
from fleet.web.api.once import Once
from fleet.web.api.who import Operator, operator_of
from fleet.web.gate import body_of, unauthorized_response

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
Members: TypeAlias = Mapping[str, Json]
Handler: TypeAlias = Callable[[Asked], Awaitable[Members | web.StreamResponse]]

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_PAGED = ("after", "limit")


@dataclass(frozen=True, slots=True)
class One:
    """An answer that is one object, of a shape that `shapes` knows."""

    shape: str


@dataclass(frozen=True, slots=True)
class Page:
    """An answer that is a page of objects, with the cursor of the next one."""

    shape: str


@dataclass(frozen=True, slots=True)
class Document:
    """An answer that is no JSON object."""

    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`path` follows `/api/v1/`; whoever has `role`, or a higher one, may call it. None: everybody."""

    method: str
    path: str
    role: Role | None
    handler: Handler
    about: str
    answer: One | Page | Document
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    """The members that a JSON body may have."""
    needs: frozenset[str] = field(default=frozenset())
    """Parameters and members that must be there."""
    file: str = ""
    """Media type of a body that is a file."""
    longest: int = MAX_BODY_BYTES

    @property
    def parameters(self) -> tuple[str, ...]:
        """The query's parameters; a list that is read has those of its page."""
        paged = self.method == "GET" and isinstance(self.answer, Page)
        return (*self.query, *_PAGED) if paged else self.query


def add(app: web.Application, context: Context, *, routes: Sequence[Route]) -> None:
    """Add routes to an application."""
    once = Once(context)
    for route in routes:
        app.router.add_route(route.method, f"/api/v1/{route.path}", _guarded(route, context, once))


def _guarded(
    route: Route, context: Context, once: Once
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        operator = await operator_of(request, context) if route.role is not None else None
        if route.role is not None:
            if operator is None:
                return unauthorized_response()
            require(operator, route.role)
        content = await body_of(request, longest=route.longest) if route.method == "POST" else b""
        asked = Asked(context=context, known_operator=operator, request=request, content=content, route=route)
        asked.query()

        async def act() -> web.StreamResponse:
            return await _answered(route, asked)

        # Answers are kept for whoever has a name: nothing is, on a route that is open to everybody.
        is_kept = route.method == "POST" and operator is not None
        return await once.answer(asked, act) if is_kept else await act()

    return handle


async def _answered(route: Route, asked: Asked) -> web.StreamResponse:
    try:
        if route.method == "POST" and route.role is not None:
            await require_factor(asked, route.path)
    except CodeNeededError as error:
        return needed_response(error)
    found = await route.handler(asked)
    return found if isinstance(found, web.StreamResponse) else web.json_response(found, headers=_HEADERS)


def require(operator: Operator, role: Role) -> None:
    """Let an operator pass who has a role, or a higher one.

    Raises:
        RoleError: he has not.
    """
    if not operator.may(role):
        raise RoleError(
            f"{operator.name} has the role {operator.role}, and this needs {role}",
            hint=f"ask somebody who has the role {role}; fleet operator list names them",
        )


def listed(items: Sequence[Members], following: str | None = None) -> Members:
    """Return a page of a list; `following` is its cursor, None on the last page."""
    return {"items": items, "next": following}


def time_or_none(moment: datetime | None) -> str | None:
    """Return a time as text, where there is one."""
    return None if moment is None else time_text(moment)
