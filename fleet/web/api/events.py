"""What happens in the fleet, as it happens: entries of the audit trail as server-sent events (HTML 9.2).

It reads what is committed and nothing else, so that nobody is told of what did not happen. A client that
comes back says which event it had last, and misses none.
"""

import asyncio
import contextlib
import json
from dataclasses import replace
from http import HTTPStatus

from aiohttp import ClientConnectionResetError, web

from device_agent.wire.identity import parse_serial
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.errors import RefusedError
from fleet.model import Role
from fleet.ra.people import audits
from fleet.store.audit import AuditQuery, StoredEntry
from fleet.web.api.asked import Asked
from fleet.web.api.audit import entry_members
from fleet.web.api.routes import Document, Route
from fleet.web.api.who import operator_of

MOST_LISTENERS = 64
LAST_EVENT = "Last-Event-ID"

_LOOK_SECONDS = 0.5
_LOOKS_BETWEEN_SIGNS = 20
"""After so many looks with nothing to tell, a sign of life goes out, and the operator is looked up again."""
_RETRY_MS = 2000
_HIGHEST = 2**62


class _Listening:
    """How many listen, and whether the server stops."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.places = asyncio.Semaphore(MOST_LISTENERS)


_LISTENING = web.AppKey("listening", _Listening)


def prepare(app: web.Application) -> None:
    """Give an application its places for listeners, who go when it stops."""
    listening = app[_LISTENING] = _Listening()

    async def stop(_app: web.Application) -> None:
        listening.stopping.set()

    app.on_shutdown.append(stop)


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="events",
            role=Role.VIEWER,
            handler=_events,
            about=(
                "What happens, as it happens: server-sent events, one an audit entry, from now on or after "
                "an entry's number. `Last-Event-ID` goes on where a connection broke."
            ),
            query=("domain", "device_id", "serial", "actor", "action", "after"),
            answer=Document("text/event-stream"),
        ),
    )


async def _events(asked: Asked) -> web.StreamResponse:
    query = await _wanted(asked)
    listening = asked.request.app[_LISTENING]
    if listening.places.locked():
        raise RefusedError(
            f"{MOST_LISTENERS} programs listen already, and no more may",
            hint="end one of them, or read fleet audit search now and then",
            code=ProblemCode.BUSY,
        )
    async with listening.places:
        response = web.StreamResponse(
            status=HTTPStatus.OK,
            # nginx would hold a stream back until its buffer is full.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        response.content_type = "text/event-stream"
        try:
            await response.prepare(asked.request)
            await response.write(f"retry: {_RETRY_MS}\n\n".encode())
            await _tell(asked, response, query, until=listening.stopping)
            await response.write_eof()
        except ClientConnectionResetError:
            pass  # whoever listened has gone
        return response


async def _wanted(asked: Asked) -> AuditQuery:
    query = asked.query()
    serial = query.text("serial")
    last = asked.request.headers.get(LAST_EVENT, "")
    if last and not (last.isdecimal() and last.isascii() and int(last) <= _HIGHEST):
        raise MalformedMessageError(f"{LAST_EVENT} must be the id of an event")
    after = int(last) if last else query.number("after", default=-2, lowest=-1, highest=_HIGHEST)
    return AuditQuery(
        domain=query.domain("domain"),
        device_id=query.text("device_id"),
        serial=parse_serial(serial) if serial else "",
        actor=query.text("actor"),
        action=query.text("action"),
        after=after if after >= -1 else await audits.newest(asked.context.store),
    )


async def _tell(
    asked: Asked, response: web.StreamResponse, query: AuditQuery, *, until: asyncio.Event
) -> None:
    """Write what comes, until the server stops or the operator may no longer listen."""
    quiet = 0
    while not until.is_set():
        found, seen = await audits.search_on(asked.context.store, query)
        query = replace(query, after=seen)
        quiet = 0 if found else quiet + 1
        if found:
            await response.write("".join(map(_event, found)).encode())
        elif quiet % _LOOKS_BETWEEN_SIGNS == 0:
            await response.write(b": nothing new\n\n")
        if quiet % _LOOKS_BETWEEN_SIGNS == 0 and not await _may_listen(asked):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await until.wait()


async def _may_listen(asked: Asked) -> bool:
    """Tell whether the operator is one still; who was removed hears no more."""
    try:
        return await operator_of(asked.request, asked.context) is not None
    except RefusedError:
        return False


def _event(stored: StoredEntry) -> str:
    # JSON has no line ends of its own here, so that one entry is one event.
    data = json.dumps(entry_members(stored), ensure_ascii=False, separators=(",", ":"))
    return f"id: {stored.number}\ndata: {data}\n\n"
