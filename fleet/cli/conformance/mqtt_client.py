"""What the kit knows of the device at its broker, and how it waits for what the device does next."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError, ProblemCode, Retry
from device_agent.wire.replies import BrokerAddress, Issued, Problem, ReportedState, Status
from device_agent.wire.requests import Enroll, Renew, StatusQuery, TimeQuery
from device_agent.wire.topics import EnrollTopics, OperationalTopics
from fleet.cli.conformance.check import Failure
from fleet.cli.conformance.mqtt_server import Broke, Said, Server, Visit
from fleet.cli.conformance.workshop import DOMAIN, Workshop, now
from fleet.core.csr import Csr, read_csr
from fleet.errors import RefusedError

RENEW_AFTER = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request of the device, and how it came."""

    said: Said
    request: messages.Request

    @property
    def visit(self) -> Visit:
        return self.said.visit


@dataclass(slots=True, kw_only=True)
class Client:
    """The device under test."""

    server: Server
    workshop: Workshop
    device_id: str
    code: str
    host: str
    patience: float
    """How long the next step of the device is waited for, in seconds."""
    waits: Callable[[str], None]
    """Called with what is waited for: somebody may have to start the device."""
    key_hash: str = ""
    """Of the key that is to be certified."""
    leaf: x509.Certificate | None = None
    """What the device was given last."""
    asked: Asked | None = None
    """The request that is not answered yet."""
    renew_due: float = 0.0
    attempt: int = 0
    violations: dict[str, str] = field(default_factory=dict)
    """What was broken anywhere, by the name of its check; the first of each."""

    @property
    def identity(self) -> Identity:
        return Identity(domain=DOMAIN, device_id=self.device_id)

    @property
    def serial(self) -> str:
        """Of the certificate that was given last."""
        if self.leaf is None:
            raise Failure("it was given no certificate")
        return f"{self.leaf.serial_number:032x}"

    @property
    def topics(self) -> OperationalTopics:
        """Those of the certificate that was given last."""
        return OperationalTopics(identity=self.identity, serial=self.serial)

    async def visit(self, what: str) -> Visit:
        """Return the next connection; messages on the one before are looked at on the way."""
        async with self._waited(what):
            while True:
                event = await self._event()
                if isinstance(event, Visit):
                    return event
                self._look_at(event)

    async def request(self, what: str) -> Asked:
        """Return the next request, on whatever connection; what belongs to none is answered on the way."""
        async with self._waited(what):
            while True:
                event = await self._event()
                if isinstance(event, Visit):
                    continue
                self._look_at(event)
                if self._is_request(event):
                    self.asked = Asked(said=event, request=self._parsed(event))
                    if not self._is_aside(self.asked):
                        return self.asked

    def answer(self, reply: messages.Reply) -> None:
        """Answer the request that waits, with members beside those of the wire, as any later server may."""
        self._publish(self._waiting, reply)

    def answer_twice(self, reply: messages.Reply) -> None:
        """Answer it, and again."""
        for _ in range(2):
            self._publish(self._waiting, reply)

    def cut(self) -> None:
        """Let the request go unanswered: its connection ends."""
        self._waiting.visit.cut()

    def mislead(self, reply: messages.Reply) -> None:
        """Send what answers nothing that was asked, and let the request go unanswered."""
        self._publish(self._waiting, reply)
        self._waiting.visit.close()

    def issued(self, leaf: x509.Certificate, chain: tuple[x509.Certificate, ...]) -> Issued:
        """Return the answer that carries a leaf."""
        serial = f"{leaf.serial_number:032x}"
        topics = OperationalTopics(identity=self.identity, serial=serial)
        return Issued(
            id=self._waiting.request.id,
            serial=serial,
            certificate=_pem(leaf),
            chain="".join(_pem(one) for one in chain),
            trust=self.workshop.devices_root.pem,
            renew_after=now() + RENEW_AFTER,
            attempt_floor=self.attempt,
            broker=BrokerAddress(
                host=self.host,
                port=self.server.port,
                name=self.identity.name,
                publish=(topics.request, topics.state, f"{topics.own}/#"),
                subscribe=(topics.response, topics.notice, f"{topics.own}/#"),
            ),
        )

    def give(self, csr: Csr) -> Issued:
        """Return the answer with a right certificate, and remember it."""
        if not isinstance(csr.public_key, ec.EllipticCurvePublicKey):
            raise Failure("its key is on no curve: the kit has only such certificates")
        self.leaf = self.workshop.device(self.device_id, csr.public_key)
        issued = self.issued(self.leaf, (self.workshop.devices.certificate,))
        left = issued.renew_after - datetime.now(UTC)
        self.renew_due = asyncio.get_running_loop().time() + left.total_seconds()
        return issued

    def problem(self, code: ProblemCode, *, retry: Retry, seconds: int) -> Problem:
        """Return a problem for the request that waits."""
        return Problem(
            id=self._waiting.request.id,
            code=code,
            detail="of the kit",
            retry=retry,
            retry_after_seconds=seconds,
        )

    def break_rule(self, check: str, how: str) -> None:
        """Note that a rule was broken on the way."""
        self.violations.setdefault(check, how)

    @property
    def _waiting(self) -> Asked:
        if self.asked is None:
            raise Failure("nothing was asked")
        return self.asked

    @asynccontextmanager
    async def _waited(self, what: str) -> AsyncIterator[None]:
        """Wait for the device's next step, whatever else it does meanwhile."""
        self.waits(what)
        try:
            async with asyncio.timeout(self.patience):
                yield
        except TimeoutError as error:
            raise Failure(f"{what} does not come within {self.patience:g} seconds") from error

    async def _event(self) -> Visit | Said:
        event = await self.server.events.get()
        if isinstance(event, Broke):
            raise Failure(event.reason)
        return event

    def _publish(self, asked: Asked, reply: messages.Reply) -> None:
        topic = asked.said.publish.topic.removesuffix("request") + "response"
        body = messages.encode(reply)
        later = body[:-1] + b',"x-conform":{"added":"later"}}'
        asked.visit.publish(topic, later)

    @staticmethod
    def _is_request(said: Said) -> bool:
        return said.publish.topic.endswith("/request")

    def _look_at(self, said: Said) -> None:
        """Note what is wrong with a message, whatever is in it."""
        publish = said.publish
        if publish.qos == 0 and self._is_request(said):
            self.break_rule("qos", f"a request on {publish.topic} came with QoS 0")
        if publish.is_retained and self._is_request(said):
            self.break_rule("retain", f"a request on {publish.topic} is retained")
        if publish.topic not in self._own_topics(said.visit) and not publish.topic.startswith(
            f"devices/{DOMAIN}/{self.device_id}/"
        ):
            self.break_rule("topics", f"a message came on {publish.topic[:128]}")
        response = publish.topic.removesuffix("request") + "response"
        if self._is_request(said) and said.visit.subscribed.get(response, 0) < 1:
            self.break_rule("subscribe", f"it asked before it had subscribed to {response[:128]} with QoS 1")

    def _own_topics(self, visit: Visit) -> set[str]:
        serial = f"{visit.certificate.serial_number:032x}"
        own = OperationalTopics(identity=self.identity, serial=serial)
        enroll = EnrollTopics(client=visit.connect.client_id)
        return {own.request, own.state, enroll.request}

    def _parsed(self, said: Said) -> messages.Request:
        try:
            return messages.parse_request(said.publish.payload)
        except MalformedMessageError as error:
            raise Failure(f"a request on {said.publish.topic[:128]} cannot be read: {error}") from error

    def _is_aside(self, asked: Asked) -> bool:
        """Answer what a device may ask at any time, and return whether it was that."""
        match asked.request:
            case TimeQuery(id=message_id):
                told = Problem.of(message_id, ProblemCode.UNSUPPORTED_TYPE, "the kit signs no time")
                self._publish(asked, told)
                return True
            case StatusQuery(id=message_id):
                status = Status(
                    id=message_id,
                    serial=f"{asked.visit.certificate.serial_number:032x}",
                    state=ReportedState.ACTIVE,
                    renew_after=now() + RENEW_AFTER,
                )
                self._publish(asked, status)
                return True
            case _:
                return False


def csr_of(request: messages.Request) -> Csr:
    """Return the request for a certificate in a message; raises `Failure`."""
    if not isinstance(request, Enroll | Renew):
        raise Failure(f"{request.kind} was sent where a request for a certificate was to come")
    try:
        return read_csr(request.csr)
    except RefusedError as error:
        raise Failure(f"its request for a certificate is not right: {error}") from error


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
