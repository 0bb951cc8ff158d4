"""Notes for the connection history which certificates HTTPS was shown, and whom TLS refused."""

from collections.abc import Awaitable, Callable
from weakref import WeakSet

from aiohttp import web
from aiohttp.typedefs import Middleware

from fleet.core.causes import Cause, of_problem
from fleet.core.history import contact
from fleet.errors import RefusedError, RoleError
from fleet.model import BrokerEventKind
from fleet.ra.context import Context
from fleet.tls_refusals import Told
from fleet.web.gate import peer_certificate

HTTPS, EST = "https", "est"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def visitors(context: Context) -> Middleware:
    """Return what notes each connection with a certificate once, and each refusal of one."""
    known: WeakSet[object] = WeakSet()

    @web.middleware
    async def noted(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.transport is not None and request.transport not in known:
            known.add(request.transport)
            _note(context, request, BrokerEventKind.CONNECTED)
        try:
            return await handler(request)
        except RoleError:
            raise  # what an operator may not do says nothing of his certificate
        except RefusedError as error:
            if (cause := of_problem(error.code)) is not None:
                _note(context, request, BrokerEventKind.REFUSED, cause)
            raise

    return noted


def refused_by_tls(context: Context) -> Told:
    """Return what notes a handshake that failed."""

    def note(cause: Cause, address: str) -> None:
        context.history.note(
            contact(
                kind=BrokerEventKind.REFUSED,
                place=HTTPS,
                at=context.clock(),
                cause=cause,
                address=address,
            )
        )

    return note


def _note(context: Context, request: web.Request, kind: BrokerEventKind, cause: Cause | None = None) -> None:
    shown = peer_certificate(request)
    if shown is None:
        return
    context.history.note(
        contact(
            kind=kind,
            place=EST if request.path.startswith("/.well-known/est/") else HTTPS,
            at=context.clock(),
            cause=cause,
            issuer=shown.issuer,
            serial=shown.serial,
            address=request.remote or "",
        )
    )
