"""Carries the renewal of one unit that has no connection of its own, from what it asks to `confirmed`.

The unit decides what to ask and signs it; the server decides what it gets. The gateway packs the answers,
and its station's signature tells the unit that they come from this fleet. It keeps nothing between visits.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire import carried, messages
from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire.factory import NONCE_BYTES, LinkState, answer_text, station_text
from device_agent.wire.objects import ObjectId, ReadableId, encode_certificates
from device_agent.wire.replies import ReportedState
from fleet.errors import RefusedError, UnreachableError
from fleet.station.keeping.package import Issuance, IssueOrder, Package, pack
from fleet.station.link.conversation import Conversation
from fleet.station.own.identity import StationIdentity
from fleet.station.server.courier import Courier, SignedRequest

_MOST_QUESTIONS = 6
"""Renew, confirm, and what a `dead` or a lost slot adds; a unit that asks for more is broken."""
_OVER = (ReportedState.SUPERSEDED, ReportedState.EXPIRED)
"""A unit renews from either, whatever its own view of the time."""


class Outcome(StrEnum):
    """What a visit came to."""

    RENEWED = "renewed"
    CURRENT = "current"
    """Its certificate is in order, and not due."""
    BLANK = "blank"
    """It has no certificate: a factory line gives it its first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """How one unit was left; `serial` is that of the certificate that it uses."""

    hardware_id: str
    device_id: str
    outcome: Outcome
    serial: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What visits share. `servers` are the anchors (DER) by which units trust servers and stations."""

    identity: StationIdentity
    courier: Courier
    servers: tuple[bytes, ...]
    clock: Callable[[], datetime]

    async def visit(self, conversation: Conversation) -> Visit:
        """Carry whatever the unit wants to ask; return how it was left.

        Raises:
            RefusedError: the unit or the server refused; nothing was lost, a later visit goes on.
            UnreachableError: either does not answer.
        """
        hello = await conversation.call(requests.Hello(nonce=secrets.token_bytes(NONCE_BYTES)))
        if not isinstance(hello, replies.HelloReply):
            raise UnreachableError("the unit does not answer as one")
        conversation.allow(hello.largest)
        if hello.state is LinkState.FRESH:
            return Visit(hardware_id=hello.hardware_id, device_id="", outcome=Outcome.BLANK)
        return await _Errand(self, conversation, hello).run()


class _Errand:
    """One visit."""

    def __init__(self, gateway: Gateway, conversation: Conversation, hello: replies.HelloReply) -> None:
        self._gateway, self._conversation, self._hello = gateway, conversation, hello

    async def run(self) -> Visit:
        for _ in range(_MOST_QUESTIONS):
            nonce = await self._gateway.courier.nonce()
            asked = await self._conversation.call(
                requests.Ask(nonce=nonce, time=int(self._gateway.clock().timestamp()))
            )
            if not isinstance(asked, replies.AskReply) or asked.kind is replies.Asked.NOTHING:
                return self._left(Outcome.BLANK)
            visit = await self._answer(await self._carry(asked, nonce))
            if visit is not None:
                return visit
        raise RefusedError("the unit asks again and again", hint="reset it, or look at it on a line")

    async def _carry(self, asked: replies.AskReply, nonce: bytes) -> messages.Reply:
        read = self._conversation.read
        signed = SignedRequest(
            request=await read(ReadableId.REQUEST, length=asked.length, digest=asked.digest),
            certificate=await read(
                ReadableId.CERTIFICATE, length=asked.certificate_length, digest=asked.fingerprint
            ),
            nonce=nonce,
            signature=asked.signature,
        )
        return await self._gateway.courier.carry(signed)

    async def _answer(self, reply: messages.Reply) -> Visit | None:
        """Give the unit the server's answer; return the visit where this ends it."""
        match reply:
            case messages.Issued():
                await self._install(_package(reply, self._hello, self._gateway.servers))
                return None
            case messages.Confirmed(serial=serial):
                await self._tell(carried.ConfirmedAnswer(serial=bytes.fromhex(serial)))
                return self._left(Outcome.RENEWED, serial)
            case messages.Dead(key_hash=key_hash, attempt_floor=floor):
                await self._tell(carried.DeadAnswer(key_hash=bytes.fromhex(key_hash), attempt_floor=floor))
                return None
            case messages.Status():
                return await self._tell_status(reply)
            case _:
                raise UnreachableError(f"the server answered with {reply.kind}")

    async def _tell_status(self, status: messages.Status) -> Visit | None:
        is_over = status.state in _OVER
        await self._tell(
            carried.StatusAnswer(
                serial=bytes.fromhex(status.serial),
                is_over=is_over,
                renew_after=int(status.renew_after.timestamp()),
            )
        )
        if is_over:
            return None
        if status.state in (ReportedState.REVOKED, ReportedState.SUSPENDED):
            raise RefusedError(
                f"the certificate {status.serial} of {self._hello.device_id} is {status.state}"
            )
        return self._left(Outcome.CURRENT, status.serial)

    async def _install(self, package: Package) -> None:
        chain = encode_certificates(self._gateway.identity.chain)
        await self._conversation.write({**package.objects, ObjectId.STATION_CHAIN: chain})
        text = station_text(self._conversation.session, device_nonce=self._hello.nonce, hashes=package.hashes)
        signature = self._gateway.identity.sign(text)
        await self._conversation.call(requests.Install(hashes=package.hashes, signature=signature))

    async def _tell(self, answer: carried.CarriedAnswer) -> None:
        octets = carried.encode_answer(answer)
        text = answer_text(self._conversation.session, device_nonce=self._hello.nonce, answer=octets)
        identity = self._gateway.identity
        await self._conversation.call(
            requests.Hear(answer=octets, signature=identity.sign(text), station_chain=identity.chain)
        )

    def _left(self, outcome: Outcome, serial: str = "") -> Visit:
        hello = self._hello
        return Visit(hardware_id=hello.hardware_id, device_id=hello.device_id, outcome=outcome, serial=serial)


def _package(issued: messages.Issued, hello: replies.HelloReply, servers: tuple[bytes, ...]) -> Package:
    """Pack a renewed certificate as a factory does; link certificates stand above the issuing CA."""
    order = IssueOrder(device_id=hello.device_id, hardware_id=hello.hardware_id, csr=b"")
    links = _ders(issued.link) if issued.link is not None else ()
    issuance = Issuance(
        serial=issued.serial,
        # They come oldest first; a path is walked from the leaf up.
        chain=(*_ders(issued.certificate), *_ders(issued.chain), *reversed(links)),
        anchors=_ders(issued.trust),
        servers=servers,
        renew_after=issued.renew_after,
        broker=issued.broker,
        recovery=issued.recovery,
    )
    return pack(order, issuance)


def _ders(pem: str) -> tuple[bytes, ...]:
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise UnreachableError("the server's answer holds no certificates") from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
