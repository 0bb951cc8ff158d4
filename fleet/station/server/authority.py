"""The registration authority over HTTP: `enroll` and `confirm` of the wire contract, as a station.

Over HTTPS the station shows its certificate; in the server's own home it asks on the admin socket, whose
file mode is the proof. It keeps no key, and tries nothing twice by itself.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from ssl import SSLContext
from typing import Self, TypeAlias, TypeVar

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire import messages
from device_agent.wire.fields import MAX_BODY_BYTES, parse_object
from device_agent.wire.problems import MalformedMessageError, Retry
from fleet.core.station_recall import (
    Release,
    encode_numbers,
    encode_recall,
    encode_taken,
    parse_last,
    parse_recalled,
    parse_releases,
)
from fleet.core.station_sync import JournalReceipt, JournalUpload, parse_receipt
from fleet.errors import NotFoundError, RefusedError, UnreachableError
from fleet.model import KeyOrigin
from fleet.station.keeping.package import Issuance, IssueOrder
from fleet.station.server.recall import Recalled
from fleet.station.server.tunnel import TokenServer, Tunnel

_Answer = TypeVar("_Answer")

_STATION_HEADER = "X-Fleet-Station"
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSocket:
    """The server's socket in its own home, and the name that the station goes by there."""

    path: Path
    station: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsServer:
    """A server elsewhere; `tls` trusts it by `trust/server.pem` and shows the station's certificate."""

    host: str
    port: int
    tls: SSLContext


Server: TypeAlias = AdminSocket | HttpsServer | TokenServer


@asynccontextmanager
async def connected(
    server: Server, *, patience: timedelta
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Give what asks a server, and what its addresses begin with; nothing is asked before it is needed.

    Raises:
        FleetError: the station's key is in a token, and cannot be used.
    """
    async with AsyncExitStack() as stack:
        connector: aiohttp.BaseConnector
        tunnels: tuple[Tunnel, ...] = ()
        match server:
            case AdminSocket(path=path):
                connector, base = aiohttp.UnixConnector(str(path)), "http://localhost"
            case HttpsServer(host=host, port=port, tls=tls):
                connector, base = aiohttp.TCPConnector(ssl=tls), f"https://{host}:{port}"
            case TokenServer(host=host, port=port):
                tunnels = (await stack.enter_async_context(Tunnel.opened(server)),)
                connector, base = aiohttp.UnixConnector(str(tunnels[0].socket)), f"http://{host}:{port}"
        limit = aiohttp.ClientTimeout(total=patience.total_seconds())
        session = aiohttp.ClientSession(connector=connector, timeout=limit, middlewares=tunnels)
        yield await stack.enter_async_context(session), base


class HttpEnroller:
    """An `Enroller`. `servers` are the anchors (DER) by which devices trust servers and stations."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base: str,
        headers: dict[str, str],
        servers: tuple[bytes, ...],
    ) -> None:
        self._http = http
        self._base = base
        self._headers = headers
        self._servers = servers

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        server: Server,
        *,
        servers: tuple[bytes, ...],
        patience: timedelta = timedelta(seconds=20),
    ) -> AsyncIterator[Self]:
        """Open the way to the server; raises as `connected`."""
        headers = _JSON | ({_STATION_HEADER: server.station} if isinstance(server, AdminSocket) else {})
        async with connected(server, patience=patience) as (http, base):
            yield cls(http, base=base, headers=headers, servers=servers)

    async def issue(self, order: IssueOrder) -> Issuance:
        """Post `enroll` with the proof `station`; raises RefusedError, UnreachableError."""
        enroll = messages.Enroll(
            id=str(uuid.uuid4()),
            device_id=order.device_id,
            csr=_csr_pem(order.csr),
            proof=messages.Proof(kind=messages.ProofKind.STATION, code=order.code),
        )
        asked = (
            ("replaces", order.replaces or ""),
            ("batch", order.batch),
            ("key", "" if order.key is KeyOrigin.DEVICE else order.key.value),
        )
        query = {name: value for name, value in asked if value}
        reply = await self._post("/api/v1/enroll", enroll, query)
        if not isinstance(reply, messages.Issued):
            raise UnreachableError(f"the server answered enroll with {reply.kind}")
        return self._issuance(reply)

    async def confirm(self, serial: str) -> None:
        """Post `confirm` for a certificate that this station had made; raises as `issue`."""
        reply = await self._post(
            "/api/v1/confirm", messages.Confirm(id=str(uuid.uuid4())), {"serial": serial}
        )
        if not isinstance(reply, messages.Confirmed) or reply.serial != serial:
            raise UnreachableError(f"the server answered confirm with {reply.kind}")

    async def sync(self, upload: JournalUpload) -> JournalReceipt:
        """Post entries of the journal; raises RefusedError, UnreachableError."""
        return _read(parse_receipt, await self._ask("journal", upload.encode()))

    async def recall(self, fingerprint: bytes) -> Recalled:
        """Post `recall`; raises NotFoundError, RefusedError, UnreachableError."""
        body = await self._ask("recall", encode_recall(fingerprint.hex()))
        try:
            issued, is_in_use = parse_recalled(body)
            reply = messages.parse_reply(issued)
        except MalformedMessageError as error:
            raise UnreachableError(f"the server's answer cannot be read: {error}") from error
        if not isinstance(reply, messages.Issued):
            raise UnreachableError(f"the server answered recall with {reply.kind}")
        return Recalled(issuance=self._issuance(reply), is_in_use=is_in_use)

    async def last_number(self, prefix: str) -> int:
        """Post `numbers`; raises RefusedError, UnreachableError."""
        return _read(parse_last, await self._ask("numbers", encode_numbers(prefix)))

    async def releases(self, taken: tuple[int, ...]) -> tuple[Release, ...]:
        """Post `releases`; raises RefusedError, UnreachableError."""
        return _read(parse_releases, await self._ask("releases", encode_taken(taken)))

    async def _ask(self, what: str, body: bytes) -> bytes:
        """Return the answer to a station's question; a problem document is raised as what it says."""
        status, answer = await self._send(f"/api/v1/station/{what}", body, {})
        if status == HTTPStatus.OK:
            return answer
        try:
            detail = parse_object(answer).any_text("detail", longest=1000)
        except MalformedMessageError as error:
            raise UnreachableError(f"the server's answer cannot be read: {error}") from error
        if status == HTTPStatus.NOT_FOUND:
            raise NotFoundError(detail)
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RefusedError(detail)
        raise UnreachableError(f"the server says: {detail}")

    async def _post(self, path: str, request: messages.Request, query: dict[str, str]) -> messages.Reply:
        _, body = await self._send(path, messages.encode(request), query)
        try:
            return _settled(messages.parse_reply(body))
        except MalformedMessageError as error:
            raise UnreachableError(f"the server's answer cannot be read: {error}") from error

    async def _send(self, path: str, body: bytes, query: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body of an answer, whatever it says. Raises `UnreachableError`."""
        try:
            async with self._http.post(
                self._base + path, data=body, params=query, headers=self._headers
            ) as response:
                return response.status, await bounded(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(
                "the registration authority does not answer", hint="is `fleet serve` running"
            ) from error

    def _issuance(self, issued: messages.Issued) -> Issuance:
        try:
            return Issuance(
                serial=issued.serial,
                chain=(*_ders(issued.certificate), *_ders(issued.chain)),
                anchors=_ders(issued.trust),
                servers=self._servers,
                renew_after=issued.renew_after,
                broker=issued.broker,
                recovery=issued.recovery,
            )
        except ValueError as error:
            raise UnreachableError("the server's answer holds no certificates") from error


def _read(parse: Callable[[bytes], _Answer], body: bytes) -> _Answer:
    try:
        return parse(body)
    except MalformedMessageError as error:
        raise UnreachableError(f"the server's answer cannot be read: {error}") from error


async def bounded(content: aiohttp.StreamReader) -> bytes:
    """Return a body to its end; of one that is too long, so much that it shows."""
    body = b""
    async for chunk in content.iter_chunked(MAX_BODY_BYTES):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return body


def _settled(reply: messages.Reply) -> messages.Reply:
    match reply:
        case messages.Problem(retry=Retry.NEVER):
            raise RefusedError(reply.detail, code=reply.code)
        case messages.Problem():
            raise UnreachableError(f"the server says {reply.code}: {reply.detail}")
        case messages.Pending():
            raise UnreachableError(f"the server waits for an approval ({reply.code})")
        case _:
            return reply


def _csr_pem(csr: bytes) -> str:
    try:
        return x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode()
    except ValueError as error:
        raise RefusedError("the unit's request cannot be read") from error


def _ders(pem: str) -> tuple[bytes, ...]:
    certificates = x509.load_pem_x509_certificates(pem.encode())
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
