"""HTTPS routes of EST: every request below /.well-known/est/ goes, whole, to the one who speaks the protocol.

It reads and writes HTTP, and knows nothing of enrollment. Errors are short plain texts (RFC 7030 4.2.3),
no problem documents: EST's clients show them to people as they are.
"""

from http import HTTPStatus

from aiohttp import web

from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.secret import Secret
from fleet.exchange import HttpAnswerer, HttpRequest
from fleet.web.gate import body_of, peer_certificate_der

ROUTES = (
    "/.well-known/est/{path:.*}",  # RFC 7030 3.2.2, labels included
    # strongSwan 5.9 puts the path of its URL before the well-known place: its only way to name a label.
    "/{label}/.well-known/est/{path:.*}",
)


def mount(app: web.Application, answerer: HttpAnswerer) -> None:
    """Add the routes; `answerer` answers every request, whatever its path and method."""

    async def answer(request: web.Request) -> web.Response:
        try:
            body = await body_of(request, longest=MAX_BODY_BYTES)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{HTTPStatus(error.status).phrase.lower()}\n")
        found = await answerer(_request(request, body))
        headers = dict(found.headers)
        if found.content_type:
            headers["Content-Type"] = found.content_type
        return web.Response(status=found.status, body=found.body or None, headers=headers)

    for route in ROUTES:
        app.router.add_route("*", route, answer)


def _request(request: web.Request, body: bytes) -> HttpRequest:
    authorization = request.headers.get("Authorization")
    label, path = request.match_info.get("label"), request.match_info["path"]
    return HttpRequest(
        method=request.method,
        path=path if label is None else f"{label}/{path}",
        content_type=request.headers.get("Content-Type", ""),
        authorization=None if authorization is None else Secret(authorization),
        body=body,
        certificate=peer_certificate_der(request),
        address=request.remote or "",
    )
