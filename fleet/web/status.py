"""Plain HTTP: OCSP (RFC 6960 A), CRLs and issuing CA certificates, where RFC 5280 clients look for them.

Plain HTTP is right here: everything is signed, and a client cannot check TLS before it has this. It never
changes anything.
"""

from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.ca import ocsp
from fleet.errors import BadInputError, NotFoundError
from fleet.ra.context import Context
from fleet.ra.standing import OCSP_LIFETIME, ocsp_answer
from fleet.web.gate import body_of

_MAX_OCSP_BYTES = 4096
_OCSP_TYPE = "application/ocsp-response"
_CRL_TYPE = "application/pkix-crl"
_CERTIFICATE_TYPE = "application/pkix-cert"
_NOT_KEPT = frozenset({ocsp.MALFORMED, ocsp.UNAUTHORIZED, ocsp.TRY_LATER})
"""Error responses are not signed: no cache may answer with them (RFC 5019 6.1)."""


def mount(app: web.Application, context: Context) -> None:
    """Add the status routes."""
    routes = _StatusRoutes(context)
    app.router.add_post("/ocsp", routes.ocsp_post)
    app.router.add_get("/ocsp/{request:.+}", routes.ocsp_get)
    app.router.add_get("/crl/{issuer:[0-9a-f]{2,128}}.crl", routes.crl)
    app.router.add_get("/ca/{issuer:[0-9a-f]{2,128}}.cer", routes.certificate)


class _StatusRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def ocsp_post(self, request: web.Request) -> web.Response:
        """RFC 6960 A.1, POST."""
        answer = await ocsp_answer(self._context, await body_of(request, longest=_MAX_OCSP_BYTES))
        return web.Response(body=answer, content_type=_OCSP_TYPE, headers={"Cache-Control": "no-store"})

    async def ocsp_get(self, request: web.Request) -> web.Response:
        """RFC 6960 A.1, GET: the path as it came, because base64 has `/`, and two of them are not one."""
        try:
            asked = ocsp.request_of_path(request.raw_path.split("?")[0].removeprefix("/ocsp/"))
        except BadInputError:
            asked = b""
        answer = await ocsp_answer(self._context, asked)
        if answer in _NOT_KEPT:
            return web.Response(body=answer, content_type=_OCSP_TYPE, headers={"Cache-Control": "no-store"})
        # RFC 5019 6.2, and never beyond the answer's own nextUpdate.
        seconds = int(OCSP_LIFETIME.total_seconds()) // 2
        headers = {"Cache-Control": f"max-age={seconds}, public, no-transform, must-revalidate"}
        return web.Response(body=answer, content_type=_OCSP_TYPE, headers=headers)

    async def crl(self, request: web.Request) -> web.Response:
        """RFC 5280 4.2.1.13: the DER of the list in force."""
        found = self._context.crls.find(request.match_info["issuer"])
        if found is None:
            return self._root_crl(request.match_info["issuer"])
        now = self._context.clock()
        fresh = max(0, int((found.next_update - now).total_seconds()))
        headers = {
            # A revocation must not wait in a cache for nextUpdate.
            "Cache-Control": f"max-age={min(60, fresh)}, public, must-revalidate",
            "Last-Modified": _http_date(found.this_update),
            "Expires": _http_date(found.next_update),
            "ETag": f'"{found.number}"',
        }
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=found.der, content_type=_CRL_TYPE, headers=headers)

    def _root_crl(self, issuer: str) -> web.Response:
        """A root's list was signed when its key was last at hand; it is served as it stands."""
        for root in self._context.authority.roots:
            if root.issuer_id == issuer:
                return web.Response(body=root.crl, content_type=_CRL_TYPE)
        raise web.HTTPNotFound

    async def certificate(self, request: web.Request) -> web.Response:
        """RFC 5280 4.2.2.1 (caIssuers): one certificate, DER."""
        try:
            found = self._context.authority.certificate(request.match_info["issuer"])
        except NotFoundError as error:
            raise web.HTTPNotFound from error
        der = found.public_bytes(Encoding.DER)
        headers = {"Cache-Control": "max-age=86400, public"}
        return web.Response(body=der, content_type=_CERTIFICATE_TYPE, headers=headers)


def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
