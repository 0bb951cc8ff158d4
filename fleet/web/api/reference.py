"""Writes the reference of the HTTP API from its table: `python -m fleet.web.api.reference PAGE`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fleet.files import PUBLIC_MODE, write_file
from fleet.web.api import table
from fleet.web.api.routes import Document, One, Page, Route

_HEAD = """\
# HTTP API

Made from the table of routes by `python -m fleet.web.api.reference docs/reference/http-api.md`; a test holds
it to them. The same as OpenAPI 3.1, with every schema: `GET /api/v1/openapi.json`.

HTTPS with an operator's client certificate; each route names the least role that may call it. Bodies are JSON
objects of at most 64 KiB; what a row does not name is refused, and what is **bold** must be there. Lists come
in pages: `limit` (at most 1000) and `after`, the `next` of the page before. A `POST` with an
`Idempotency-Key` acts once, however often it is sent within a day. Errors are problem documents (RFC 9457)
with `code`, and where there is more to say with `hint` and `exit`, the exit code of a command that ends
with it.
How to become an operator: [Operate from elsewhere](../how-to/operate-remotely.md).
"""


def text() -> str:
    """Return the page, Markdown."""
    return "".join((_HEAD, *_sections(table())))


def _sections(routes: Sequence[Route]) -> Iterator[str]:
    for noun in dict.fromkeys(map(_noun, routes)):
        yield f"\n## {noun}\n\n| | role | takes | returns | |\n|---|---|---|---|---|\n"
        yield from (_row(route) for route in routes if _noun(route) == noun)


def _noun(route: Route) -> str:
    return route.path.partition("/")[0]


def _row(route: Route) -> str:
    role = "everybody" if route.role is None else route.role.value
    call = f"`{route.method} /api/v1/{route.path}`"
    return f"| {call} | {role} | {_taken(route)} | {_returned(route)} | {route.about} |\n"


def _taken(route: Route) -> str:
    names = [f"**{name}**" if name in route.needs else name for name in (*route.parameters, *route.body)]
    return ", ".join([*names, *([f"a file, {route.file}"] if route.file else [])])


def _returned(route: Route) -> str:
    match route.answer:
        case One(shape):
            return shape
        case Page(shape):
            return f"page of {shape}"
        case Document(media_type):
            return media_type


if __name__ == "__main__":
    write_file(Path(sys.argv[1]), text().encode(), mode=PUBLIC_MODE)
