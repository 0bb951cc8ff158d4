"""The recovery listener over HTTP, for a gateway: what a device has signed goes there as it is.

It shows no certificate and proves nothing by itself: the device's signature does.
"""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, Self

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire import messages
from device_agent.wire.fields import parse_object
from device_agent.wire.problems import MalformedMessageError, Retry
from fleet.errors import RefusedError, UnreachableError
from fleet.station.server.way import Server, bounded, connected

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What a device asks: exact JSON, the certificate that speaks (DER), and the signature by its key."""

    request: bytes
    certificate: bytes
    nonce: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Return the body of `POST /api/v1/recover`; raises `RefusedError` for what is no certificate."""
        try:
            certificate = x509.load_der_x509_certificate(self.certificate)
        except ValueError as error:
            raise RefusedError("what the unit shows is no certificate") from error
        return json.dumps(
            {
                "request": base64.b64encode(self.request).decode(),
                "certificate": certificate.public_bytes(Encoding.PEM).decode(),
                "nonce": self.nonce.hex(),
                "signature": base64.b64encode(self.signature).decode(),
            }
        ).encode()


class Courier(Protocol):
    """The way to the recovery listener."""

    async def nonce(self) -> bytes:
        """Return a fresh nonce of the server; raises `UnreachableError`."""
        ...

    async def carry(self, signed: SignedRequest) -> messages.Reply:
        """Return the server's answer; raises `RefusedError` for a final no, else `UnreachableError`."""
        ...


class HttpCourier:
    """A `Courier`."""

    def __init__(self, http: aiohttp.ClientSession, *, base: str) -> None:
        self._http = http
        self._base = base

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, server: Server, *, patience: timedelta = timedelta(seconds=20)
    ) -> AsyncIterator[Self]:
        """Open the way to the server; raises as `connected`."""
        async with connected(server, patience=patience) as (http, base):
            yield cls(http, base=base)

    async def nonce(self) -> bytes:
        """Return a fresh nonce of the server; raises `UnreachableError`."""
        body = await self._exchange("GET", "/api/v1/nonce")
        try:
            return bytes.fromhex(parse_object(body).sha256("nonce"))
        except MalformedMessageError as error:
            raise UnreachableError("the server gives no nonce now; ask again later") from error

    async def carry(self, signed: SignedRequest) -> messages.Reply:
        """Return the server's answer; raises `RefusedError` for a final no, else `UnreachableError`."""
        body = await self._exchange("POST", "/api/v1/recover", signed.encode())
        try:
            reply = messages.parse_reply(body)
        except MalformedMessageError as error:
            raise UnreachableError(f"the server's answer cannot be read: {error}") from error
        match reply:
            case messages.Problem(retry=Retry.NEVER):
                raise RefusedError(reply.detail, code=reply.code)
            case messages.Problem():
                raise UnreachableError(f"the server says {reply.code}: {reply.detail}")
            case _:
                return reply

    async def _exchange(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            async with self._http.request(method, self._base + path, data=body, headers=_JSON) as response:
                return await bounded(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError("the server does not answer", hint="is `fleet serve` running") from error
