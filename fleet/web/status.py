"""Plain HTTP: OCSP (RFC 6960 A), CRLs and issuing CA certificates, where RFC 5280 clients look for them.

Plain HTTP is right here: everything is signed, and a client cannot check TLS before it has this. It never
changes anything.
"""

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.ca import ocsp
from fleet.ca.ocsp_request import MAX_REQUEST_BYTES, request_of_path
from fleet.errors import BadInputError, NotFoundError
from fleet.ra.context import Context
from fleet.ra.crls import ListName, parse_list_name
from fleet.ra.kept_answers import Answer
from fleet.ra.status.press import press_of
from fleet.ra.status.public_lists import current_list
from fleet.ra.status.standing import ocsp_answer
from fleet.web.gate import body_of

MAX_AGE = timedelta(seconds=60)
"""How long a cache may go on with what it has: a revocation is seen through every cache within this time."""
MOST_AT_ONCE = 256
"""OCSP questions that wait for the store; beyond, clients are told to try later."""

PIECE = 256 * 1024
"""Octets of a list that are handed to a connection at a time."""

_OCSP_TYPE = "application/ocsp-response"
_CRL_TYPE = "application/pkix-crl"
_CERTIFICATE_TYPE = "application/pkix-cert"
_TAG_DIGITS = 32


def mount(app: web.Application, context: Context) -> None:
    """Add the status routes."""
    routes = _StatusRoutes(context)
    app.router.add_post("/ocsp", routes.ocsp_post)
    app.router.add_get("/ocsp/{request:.+}", routes.ocsp_get)
    app.router.add_get("/crl/{name:[0-9a-z-]+}.crl", routes.crl)
    app.router.add_get("/ca/{issuer:[0-9a-f]{2,128}}.cer", routes.certificate)


class _StatusRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._asking = 0

    async def ocsp_post(self, request: web.Request) -> web.Response:
        """RFC 6960 A.1, POST: no cache has any part in it."""
        answer = await self._answer(await body_of(request, longest=MAX_REQUEST_BYTES))
        return web.Response(body=answer.der, content_type=_OCSP_TYPE, headers={"Cache-Control": "no-store"})

    async def ocsp_get(self, request: web.Request) -> web.Response:
        """RFC 6960 A.1, GET: the path as it came, because base64 has `/`, and two of them are not one."""
        try:
            asked = request_of_path(request.raw_path.partition("?")[0].removeprefix("/ocsp/"))
        except BadInputError:
            asked = b""
        answer = await self._answer(asked)
        if answer.this_update is None or answer.next_update is None:
            # Error responses are not signed: no cache may answer with them (RFC 5019 6.1).
            headers = {"Cache-Control": "no-store"}
            return web.Response(body=answer.der, content_type=_OCSP_TYPE, headers=headers)
        fresh = self._headers(answer.this_update, answer.next_update, answer.tag)
        return _unless_known(request, answer.der, content_type=_OCSP_TYPE, headers=fresh)

    async def crl(self, request: web.Request) -> web.Response:
        """RFC 5280 4.2.1.13: the DER of a list as it has to be now."""
        name = parse_list_name(request.match_info["name"])
        if name is None:
            raise web.HTTPNotFound
        if not name.part and (root := self._root_crl(name)) is not None:
            return _unless_known(request, root, content_type=_CRL_TYPE, headers=self._plain_headers(root))
        context = self._context
        try:
            found = await current_list(press_of(context), context.crls, name, now=context.clock())
        except NotFoundError as error:
            raise web.HTTPNotFound from error
        headers = self._headers(found.this_update, found.next_update, str(found.number))
        return _unless_known(request, found.der, content_type=_CRL_TYPE, headers=headers)

    async def certificate(self, request: web.Request) -> web.Response:
        """RFC 5280 4.2.2.1 (caIssuers): one certificate, DER."""
        try:
            found = self._context.authority.certificate(request.match_info["issuer"])
        except NotFoundError as error:
            raise web.HTTPNotFound from error
        der = found.public_bytes(Encoding.DER)
        headers = {"Cache-Control": "max-age=86400, public"}
        return web.Response(body=der, content_type=_CERTIFICATE_TYPE, headers=headers)

    async def _answer(self, asked: bytes) -> Answer:
        if self._asking >= MOST_AT_ONCE:
            return Answer(der=ocsp.TRY_LATER)
        self._asking += 1
        try:
            return await ocsp_answer(self._context, asked)
        finally:
            self._asking -= 1

    def _root_crl(self, name: ListName) -> bytes | None:
        """The list of a CA whose key is not here was signed where it is; it is served as it stands."""
        elsewhere = self._context.authority.elsewhere
        return next((one.crl for one in elsewhere if one.issuer_id == name.issuer), None)

    def _headers(self, this_update: datetime, next_update: datetime, tag: str) -> dict[str, str]:
        """Let caches keep it for a while, but never beyond its nextUpdate (RFC 5019 6.2)."""
        now = self._context.clock()
        age = max(timedelta(0), min(MAX_AGE, next_update - now))
        return {
            "Cache-Control": f"max-age={int(age.total_seconds())}, public, no-transform, must-revalidate",
            "Last-Modified": _http_date(this_update),
            "Expires": _http_date(now + age),
            "ETag": f'"{tag}"',
        }

    def _plain_headers(self, crl: bytes) -> dict[str, str]:
        return {
            "Cache-Control": f"max-age={int(MAX_AGE.total_seconds())}, public, no-transform, must-revalidate",
            "ETag": f'"{hashlib.sha256(crl).hexdigest()[:_TAG_DIGITS]}"',
        }


def _unless_known(
    request: web.Request, body: bytes, *, content_type: str, headers: dict[str, str]
) -> web.Response:
    """Return the whole of it, or 304 to whoever has the same already (RFC 9110 13.1.2)."""
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    if len(body) <= PIECE:
        return web.Response(body=body, content_type=content_type, headers=headers)
    headers = {**headers, "Content-Length": str(len(body))}
    return web.Response(body=_in_pieces(body), content_type=content_type, headers=headers)


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a large list as fast as its client takes it: in one, each client would cost a copy of it."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
