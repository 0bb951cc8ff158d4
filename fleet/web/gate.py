"""Stands before every HTTP route: what TLS proved about the asker, body caps, errors as problem documents.

It never decides who may do what; it tells the use cases what the channel proved. A certificate in a header
is nobody's proof here.
"""

import asyncio
import json
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from uuid import uuid4

from aiohttp import web

from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.errors import ExitCode, FleetError, exit_code, problem_code
from fleet.exchange import HTTP_STATUS
from fleet.log import Event, about
from fleet.ra.shown import ShownCertificate, shown_certificate

PROBLEM_TYPE = "application/problem+json"
BODY_SECONDS = 10
"""A client that sends slower than its whole body in this time is cut off."""

_NAME = re.compile(r"[0-9A-Za-z-]{8,64}", re.ASCII)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


def problem_response(code: ProblemCode, detail: str, *, status: HTTPStatus | None = None) -> web.Response:
    """Return a problem document (RFC 9457 3); `code` is an extension member (3.2)."""
    status = status or HTTP_STATUS[code]
    document = {"title": status.phrase, "status": status.value, "detail": detail, "code": code.value}
    return web.json_response(document, status=status, content_type=PROBLEM_TYPE)


def unauthorized_response() -> web.Response:
    """Return what somebody is told who showed no certificate where an operator's is needed."""
    document = {
        "title": HTTPStatus.UNAUTHORIZED.phrase,
        "status": HTTPStatus.UNAUTHORIZED.value,
        "detail": "this is for operators, and the connection showed no client certificate",
        "code": ProblemCode.NOT_ALLOWED.value,
        "hint": "connect with an operator's certificate: fleet --operator-cert PEM --operator-key PEM",
        "exit": ExitCode.REFUSED.value,
    }
    # RFC 9110 15.5.2 asks for a challenge; none is registered for certificates, which TLS asks for.
    headers = {"WWW-Authenticate": 'ClientCertificate realm="fleet"'}
    return web.json_response(
        document, status=HTTPStatus.UNAUTHORIZED, content_type=PROBLEM_TYPE, headers=headers
    )


def error_response(error: FleetError) -> web.Response:
    """Return an error of ours as a problem document; `exit` is what a command ends with because of it."""
    code = problem_code(error)
    status = HTTP_STATUS[code]
    document: dict[str, str | int | None] = {
        "title": status.phrase,
        "status": status.value,
        "detail": str(error),
        "code": code.value,
        "hint": error.hint,
        "exit": exit_code(error).value,
    }
    return web.json_response(document, status=status, content_type=PROBLEM_TYPE)


@web.middleware
async def problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn what a route raises into a problem document; the service goes on."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _http_problem(error)
    except FleetError as error:
        return error_response(error)
    except MalformedMessageError as error:
        return problem_response(ProblemCode.MALFORMED, str(error))
    except Exception:  # noqa: BLE001 - the outermost edge of one request; others must not suffer from it
        name = request_name(request)
        failed = about(Event.API_FAILED, request=name, channel="https", address=request.remote)
        _log.exception("%s %s failed", request.method, request.path, extra=failed)
        detail = f"the server failed over this request; its log says more: request={name}"
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return problem_response(ProblemCode.UNAVAILABLE, detail, status=status)


def request_name(request: web.Request) -> str:
    """Return the name by which a client knows its request, or a new one."""
    given = request.headers.get("Idempotency-Key", "")
    return given if _NAME.fullmatch(given) else str(uuid4())


def _http_problem(error: web.HTTPException) -> web.Response:
    status = HTTPStatus(error.status)
    document = {"title": status.phrase, "status": status.value, "detail": error.reason}
    kept = {name: value for name, value in error.headers.items() if name in {"Allow", "Retry-After"}}
    return web.Response(
        body=json.dumps(document).encode(), status=status, content_type=PROBLEM_TYPE, headers=kept
    )


async def body_of(request: web.Request, *, longest: int) -> bytes:
    """Return the whole body, or raise the HTTP error for one that is too long or too slow."""
    if (request.content_length or 0) > longest:
        raise web.HTTPRequestEntityTooLarge(max_size=longest, actual_size=request.content_length or 0)
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.content.iter_any():
                parts += part
                if len(parts) > longest:
                    raise web.HTTPRequestEntityTooLarge(max_size=longest, actual_size=len(parts))
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except web.RequestPayloadError as error:  # such as a chunk without its length
        raise web.HTTPBadRequest from error
    return bytes(parts)


def peer_certificate(request: web.Request) -> ShownCertificate | None:
    """Return the client certificate of the connection, whose chain TLS has verified, or None."""
    der = peer_certificate_der(request)
    return None if der is None else shown_certificate(der)


def peer_certificate_der(request: web.Request) -> bytes | None:
    """Return the bytes of the client certificate, whose chain TLS has verified, or None."""
    transport = request.transport
    tls = None if transport is None else transport.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
