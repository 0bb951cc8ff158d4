"""HTTPS routes for devices and stations: attest, enroll, renew, confirm, done, status, recover, nonce.

It translates and no more: the body is the wire's JSON, the answer the wire's reply. What a request may do
is decided by the use cases, from what TLS proved.
"""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from device_agent.wire.fields import MAX_BODY_BYTES, Fields, time_text
from device_agent.wire.identity import parse_domain, parse_serial
from device_agent.wire.messages import Reply, encode
from device_agent.wire.replies import Pending, Problem
from fleet.core.renewal_info import CertificateName
from fleet.core.station_recall import (
    encode_releases,
    parse_numbers_asked,
    parse_recall,
    parse_taken,
)
from fleet.core.station_renewal import encode_ended, parse_renewal, parse_used
from fleet.core.station_sync import parse_upload
from fleet.exchange import HTTP_STATUS
from fleet.model import KeyOrigin
from fleet.ra.context import Asker, Context, Listener
from fleet.ra.nonces import LIFETIME
from fleet.ra.own.station_renewal import note_used, renew_station
from fleet.ra.requests.answer import answer_body, answer_unit_confirm
from fleet.ra.requests.applicants import StationWord
from fleet.ra.requests.journal_sync import sync_journal
from fleet.ra.requests.made_offline import admit_made
from fleet.ra.requests.recover import recover
from fleet.ra.requests.released import tell_releases
from fleet.ra.requests.takeover import numbers_of, recall
from fleet.ra.status.renewal_info import ASK_AGAIN, renewal_info
from fleet.web.gate import PROBLEM_TYPE, body_of, peer_certificate

STATION_HEADER = "X-Fleet-Station"
"""On the admin socket only: the station, of this home, that asks."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def mount(app: web.Application, context: Context, *, listener: Listener) -> None:
    """Add the devices' routes for one listener, HTTPS or the admin socket."""
    routes = _DeviceRoutes(context, listener)
    app.router.add_post("/api/v1/enroll", routes.enroll)
    app.router.add_post("/api/v1/confirm", routes.confirm)
    for kind in ("attest", "renew", "done", "status", "time"):
        app.router.add_post(f"/api/v1/{kind}", routes.ask)
    app.router.add_post("/api/v1/recover", routes.recover)
    app.router.add_get("/api/v1/nonce", routes.nonce)
    app.router.add_get("/api/v1/renewal-info/{name}", routes.renewal_info)
    app.router.add_post("/api/v1/station/journal", routes.sync)
    app.router.add_post("/api/v1/station/recall", routes.recall)
    app.router.add_post("/api/v1/station/numbers", routes.numbers)
    app.router.add_post("/api/v1/station/releases", routes.releases)
    app.router.add_post("/api/v1/station/renew", routes.renew_station)
    app.router.add_post("/api/v1/station/renewed", routes.station_renewed)


class _DeviceRoutes:
    """The handlers of one listener."""

    def __init__(self, context: Context, listener: Listener) -> None:
        self._context = context
        self._listener = listener

    async def enroll(self, request: web.Request) -> web.Response:
        """First certificate; a station may say more of the unit than the unit does."""
        asker, body = self._asker(request), await body_of(request, longest=MAX_BODY_BYTES)
        return _response(await answer_body(self._context, asker, body, word=_word(request)))

    async def confirm(self, request: web.Request) -> web.Response:
        """The certificate of this connection works; or, by a station, the unit's that it made."""
        asker, body = self._asker(request), await body_of(request, longest=MAX_BODY_BYTES)
        serial = request.query.get("serial")
        if serial is None:
            return _response(await answer_body(self._context, asker, body))
        return _response(await answer_unit_confirm(self._context, asker, body, serial=parse_serial(serial)))

    async def ask(self, request: web.Request) -> web.Response:
        """Whatever else the wire has, judged by the certificate of the connection."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        return _response(await answer_body(self._context, self._asker(request), body))

    async def recover(self, request: web.Request) -> web.Response:
        """A request of a device whose certificate no longer opens a connection."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        return _response(await recover(self._context, body, address=request.remote or ""))

    async def sync(self, request: web.Request) -> web.Response:
        """A station hands in its journal, and takes the rules that hold."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        synced = await sync_journal(self._context, self._asker(request), parse_upload(body))
        await admit_made(self._context, synced.station)
        return _json(synced.receipt.encode())

    async def recall(self, request: web.Request) -> web.Response:
        """A station meets a unit of its batches that another one made."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        return _json(await recall(self._context, self._asker(request), parse_recall(body)))

    async def numbers(self, request: web.Request) -> web.Response:
        """A station asks which numbers were given out: one without a ledger, or whose number was refused."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        found = await numbers_of(self._context, self._asker(request), parse_numbers_asked(body))
        return _json(found.encode())

    async def releases(self, request: web.Request) -> web.Response:
        """A station asks what was decided about its units in quarantine."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        found = await tell_releases(self._context, self._asker(request), parse_taken(body))
        return _json(encode_releases(found))

    async def renew_station(self, request: web.Request) -> web.Response:
        """A station asks for its own next certificate, with a key that it has made."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        found = await renew_station(self._context, self._asker(request), parse_renewal(body))
        return _json(found.encode())

    async def station_renewed(self, request: web.Request) -> web.Response:
        """A station says with its next certificate that it uses it."""
        body = await body_of(request, longest=MAX_BODY_BYTES)
        ended = await note_used(self._context, self._asker(request), parse_used(body))
        return _json(encode_ended(ended))

    async def nonce(self, request: web.Request) -> web.Response:
        """A fresh nonce for a recovery proof."""
        context, now = self._context, self._context.clock()
        if not context.by_address.allow(f"nonce {request.remote}", now=now):
            raise web.HTTPTooManyRequests(headers={"Retry-After": "60"})
        nonce = context.nonces.issue(now=now, randomness=context.randomness(8))
        found = {"nonce": nonce, "expires_in": int(LIFETIME.total_seconds())}
        return web.json_response(found, headers={"Cache-Control": "no-store"})

    async def renewal_info(self, request: web.Request) -> web.Response:
        """When a certificate is to be renewed, by its name, as of RFC 9773; whoever asks."""
        context = self._context
        if not context.by_address.allow(f"renewal-info {request.remote}", now=context.clock()):
            raise web.HTTPTooManyRequests(headers={"Retry-After": "60"})
        found = await renewal_info(context, CertificateName.parse(request.match_info["name"]))
        window = {"start": time_text(found.start), "end": time_text(found.end)}
        wait = str(int(ASK_AGAIN.total_seconds()))
        headers = {"Cache-Control": "no-store", "Retry-After": wait}
        return web.json_response({"suggestedWindow": window}, headers=headers)

    def _asker(self, request: web.Request) -> Asker:
        if self._listener is Listener.ADMIN:
            return Asker(listener=self._listener, station=request.headers.get(STATION_HEADER, ""))
        return Asker(
            listener=self._listener,
            address=request.remote or "",
            certificate=peer_certificate(request),
        )


def _word(request: web.Request) -> StationWord:
    """Return what a station says beside the request; raises `MalformedMessageError`."""
    said = Fields(request.query)
    return StationWord(
        replaces=said.serial("replaces") if "replaces" in said else "",
        batch=parse_domain(said.text("batch", longest=32)) if "batch" in said else "",
        key=said.word("key", of=KeyOrigin) if "key" in said else KeyOrigin.DEVICE,
    )


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _response(reply: Reply) -> web.Response:
    """Return the reply's JSON; a problem is a problem document (RFC 9457) with the wire's members."""
    match reply:
        case Problem():
            status = HTTP_STATUS[reply.code]
            document = json.loads(encode(reply)) | {"title": status.phrase, "status": status.value}
            content_type, body = PROBLEM_TYPE, json.dumps(document).encode()
            wait = reply.retry_after_seconds
        case Pending():
            status, content_type, body = HTTPStatus.ACCEPTED, "application/json", encode(reply)
            wait = reply.retry_after_seconds
        case _:
            status, content_type, body, wait = HTTPStatus.OK, "application/json", encode(reply), None
    headers = {"Cache-Control": "no-store"} | ({} if wait is None else {"Retry-After": str(wait)})
    return web.Response(body=body, status=status, content_type=content_type, headers=headers)
