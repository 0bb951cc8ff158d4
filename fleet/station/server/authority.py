"""The registration authority over HTTP: `enroll` and `confirm` of the wire contract, as a station.

Over HTTPS the station shows its certificate; in the server's own home it asks on the admin socket, whose
file mode is the proof.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire import messages
from device_agent.wire.problems import MalformedMessageError, Retry
from fleet.core.station_recall import (
    Numbers,
    NumbersAsked,
    Release,
    encode_recall,
    encode_taken,
    parse_given,
    parse_numbers,
    parse_recalled,
    parse_releases,
)
from fleet.core.station_sync import JournalReceipt, JournalUpload, parse_receipt
from fleet.errors import RefusedError, UnreachableError
from fleet.model import CertificateState, KeyOrigin
from fleet.station.keeping.package import Issuance, IssueOrder
from fleet.station.server.recall import Recalled
from fleet.station.server.way import PATIENCE, Server, Way, read


class HttpEnroller:
    """An `Enroller`. `servers` are the anchors (DER) by which devices trust servers and stations."""

    def __init__(self, way: Way, *, servers: tuple[bytes, ...]) -> None:
        self._way = way
        self._servers = servers

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, server: Server, *, servers: tuple[bytes, ...], patience: timedelta = PATIENCE
    ) -> AsyncIterator[Self]:
        """Open the way to the server; raises as `connected`."""
        async with Way.opened(server, patience=patience) as way:
            yield cls(way, servers=servers)

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
        return read(parse_receipt, await self._way.ask("journal", upload.encode()))

    async def recall(self, fingerprint: bytes) -> Recalled:
        """Post `recall`; raises NotFoundError, RefusedError, UnreachableError."""
        found = read(parse_recalled, await self._way.ask("recall", encode_recall(fingerprint.hex())))
        reply = read(messages.parse_reply, found.issued)
        if not isinstance(reply, messages.Issued):
            raise UnreachableError(f"the server answered recall with {reply.kind}")
        return Recalled(
            issuance=self._issuance(reply),
            is_in_use=found.state is CertificateState.ACTIVE,
            given=read(parse_given, found.given),
        )

    async def numbers(self, asked: NumbersAsked) -> Numbers:
        """Post `numbers`; raises RefusedError, UnreachableError."""
        return read(parse_numbers, await self._way.ask("numbers", asked.encode()))

    async def releases(self, taken: tuple[int, ...]) -> tuple[Release, ...]:
        """Post `releases`; raises RefusedError, UnreachableError."""
        return read(parse_releases, await self._way.ask("releases", encode_taken(taken)))

    async def _post(self, path: str, request: messages.Request, query: dict[str, str]) -> messages.Reply:
        _, body = await self._way.send(path, messages.encode(request), query)
        try:
            return _settled(messages.parse_reply(body))
        except MalformedMessageError as error:
            raise UnreachableError(f"the server's answer cannot be read: {error}") from error

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
