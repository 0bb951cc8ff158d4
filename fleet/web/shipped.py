"""Takes lines of other servers' logs, from operators and from the devices that may ship them.

`POST /api/v1/monitor/lines`, a text of lines. Who reads them judges them; here stands who may hand them in.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus

from aiohttp import web

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.core.log_lines import Product
from fleet.errors import RefusedError
from fleet.model import Role
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.requests.speaker import speaker_of
from fleet.ra.status.relying import Batch, take_batch
from fleet.store import allowlist
from fleet.web.api.asked import Query
from fleet.web.api.who import operator_of
from fleet.web.gate import body_of, peer_certificate, problem_response, unauthorized_response

PATH = "/api/v1/monitor/lines"
MAX_BYTES = 1024 * 1024
PARAMETERS = ("log", "product", "batch", "east_of_utc")
_BATCH = re.compile(r"[0-9A-Za-z._:-]{1,128}", re.ASCII)
_FARTHEST = 14 * 3600
"""Seconds; no place on earth is farther from UTC."""


def mount(app: web.Application, context: Context) -> None:
    """Add the route."""

    async def taken(request: web.Request) -> web.Response:
        shipper = await _shipper(request, context)
        if shipper is None:
            return unauthorized_response()
        if "Content-Encoding" in request.headers:
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            return problem_response(ProblemCode.MALFORMED, "send the lines as they are", status=status)
        batch = _batch(shipper, request.query, await body_of(request, longest=MAX_BYTES))
        found = await take_batch(context, batch)
        return web.json_response(
            {"batch": batch.id, "found": found.found, "repeated": found.repeated},
            headers={"Cache-Control": "no-store"},
        )

    app.router.add_post(PATH, taken)


async def _shipper(request: web.Request, context: Context) -> str | None:
    """Return who ships, None for nobody.

    Raises:
        RefusedError: a certificate that may not.
    """
    shown = peer_certificate(request)
    if shown is not None and context.config.monitor.shippers:
        name = await _device(request, context)
        if name in context.config.monitor.shippers:
            return name
    operator = await operator_of(request, context)
    if operator is None:
        return None
    if not operator.may(Role.OPERATOR):
        raise RefusedError(
            f"{operator.name} may look, and not hand in lines", hint="fleet operator add NAME --role operator"
        )
    return operator.name


async def _device(request: web.Request, context: Context) -> str:
    """Return the name of the device whose certificate is admitted now; empty for any other certificate."""
    shown, address = peer_certificate(request), request.remote or ""
    asker = Asker(listener=Listener.HTTPS, certificate=shown, address=address)
    try:
        speaker = await speaker_of(context, asker)
    except RefusedError as error:
        if error.code is ProblemCode.UNKNOWN_DEVICE:
            return ""
        raise
    admitted = await context.store.read(allowlist.of_serial, speaker.serial)
    return speaker.identity.name if admitted else ""


def _batch(shipper: str, parameters: Mapping[str, str], body: bytes) -> Batch:
    """Return the batch of a request; one without a name is known by its lines.

    Raises:
        MalformedMessageError: a parameter is missing, or no such thing.
    """
    if strange := sorted(set(parameters) - set(PARAMETERS)):
        raise MalformedMessageError(f"{strange[0][:64]!a} is not known here; known: {', '.join(PARAMETERS)}")
    query = Query(parameters)
    product = query.word("product", of=Product)
    if product is None:
        raise MalformedMessageError(f"product must be one of {', '.join(Product)}")
    batch = query.text("batch") or hashlib.sha256(body).hexdigest()
    if not _BATCH.fullmatch(batch):
        raise MalformedMessageError("batch must be 1 to 128 letters, digits, or ._:-")
    east = query.number("east_of_utc", default=0, lowest=-_FARTHEST, highest=_FARTHEST)
    return Batch(
        shipper=shipper,
        log=parse_domain(query.text("log")),
        id=batch,
        product=product,
        east_of_utc=timedelta(seconds=east),
        lines=body.split(b"\n"),
    )
