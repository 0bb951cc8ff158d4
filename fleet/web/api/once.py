"""Lets a request with an `Idempotency-Key` act once, however often it is sent.

A repeat gets the first answer again; another request under the same key is refused. Who sends no key says
that a repeat is meant.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import MappingProxyType

from aiohttp import web

from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.errors import ExitCode
from fleet.ra.context import Context
from fleet.ra.repeats import Kept, NotNow, Repeats, load_secret
from fleet.store.answers import AnswerRecord
from fleet.web.api.asked import Asked
from fleet.web.gate import PROBLEM_TYPE, problems

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
"""`true` on an answer that was given before."""

_KEY = re.compile(r'"?([\x21\x23-\x5b\x5d-\x7e]{1,128})"?')
"""A string (RFC 8941 3.3.3) without escapes, or the same without its quotes."""

_SAID = MappingProxyType(
    {
        NotNow.OTHER_REQUEST: (
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ProblemCode.MALFORMED,
            "this idempotency key was used for another request",
            "make a new key for each new request",
        ),
        NotNow.UNDERWAY: (
            HTTPStatus.CONFLICT,
            ProblemCode.BUSY,
            "the request with this idempotency key is being answered",
            "send it again in a second",
        ),
        NotNow.INTERRUPTED: (
            HTTPStatus.CONFLICT,
            ProblemCode.UNAVAILABLE,
            "the server was stopped over the request with this idempotency key, and may have done it",
            "fleet audit tail shows whether it did; then use a new key",
        ),
        NotNow.TOO_LONG: (
            HTTPStatus.CONFLICT,
            ProblemCode.UNAVAILABLE,
            "the request with this idempotency key was done, and its answer could not be kept",
            "look at what it made; then use a new key",
        ),
    }
)
_EXITS = {HTTPStatus.UNPROCESSABLE_ENTITY: ExitCode.BAD_INPUT, HTTPStatus.CONFLICT: ExitCode.FAILED}

_Act = Callable[[], Awaitable[web.StreamResponse]]


class Once:
    """The keys of one application."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: Repeats | None = None

    @property
    def _repeats(self) -> Repeats:
        """Made with the first key that comes: most homes never see one."""
        if self._made is None:
            self._made = Repeats(self._context, load_secret(self._context.home, self._context))
        return self._made

    async def answer(self, asked: Asked, act: _Act) -> web.StreamResponse:
        """Act, or answer as the first time."""
        key = _key(asked.request)
        if key is None:
            return await act()
        match await self._repeats.begin(asked.operator.name, key, _request_hash(asked)):
            case AnswerRecord() as record:
                return await self._first(asked, record, act)
            case Kept() as kept:
                return _again(kept)
            case NotNow() as reason:
                return _not_now(reason)

    async def _first(self, asked: Asked, record: AnswerRecord, act: _Act) -> web.StreamResponse:
        async def handle(_request: web.Request) -> web.StreamResponse:
            return await act()

        response = await problems(asked.request, handle)
        refused = HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR
        if refused:
            # Refusals come before anything was done: the next try may be one that is allowed.
            await self._repeats.release(record)
        else:
            await self._repeats.keep(record, _kept(response))
        return response


def _key(request: web.Request) -> str | None:
    given = request.headers.getall(HEADER, [])
    if not given:
        return None
    match = _KEY.fullmatch(given[0])
    if match is None or len(given) > 1:
        raise MalformedMessageError(f"{HEADER} must be 1 to 128 printable characters without spaces, once")
    return match[1]


def _request_hash(asked: Asked) -> str:
    """Return a hash of all that says what is asked; no part can be taken for another."""
    digest = hashlib.sha256()
    for part in (asked.request.method.encode(), asked.request.raw_path.encode(), asked.content):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _kept(response: web.StreamResponse) -> Kept:
    body = response.body if isinstance(response, web.Response) else None
    return Kept(
        status=response.status,
        content_type=response.headers.get("Content-Type", ""),
        body=body if isinstance(body, bytes) else b"",
    )


def _again(kept: Kept) -> web.Response:
    headers = {"Content-Type": kept.content_type, "Cache-Control": "no-store", REPLAYED: "true"}
    return web.Response(status=kept.status, body=kept.body, headers=headers)


def _not_now(reason: NotNow) -> web.Response:
    status, code, detail, hint = _SAID[reason]
    document = {
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code.value,
        "hint": hint,
        "exit": _EXITS[status].value,
    }
    headers = {"Retry-After": "1"} if reason is NotNow.UNDERWAY else {}
    return web.json_response(document, status=status, content_type=PROBLEM_TYPE, headers=headers)
