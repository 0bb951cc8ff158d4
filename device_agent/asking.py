"""What is sent for each action of the table, over which way, and what the reply means to the table.

It holds at most one operational connection, for a device has one client id: whoever opens and closes it
must be one task; where another program holds it, none. It deletes nothing and decides nothing.
"""

import logging
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from device_agent.attesting import ask_with_evidence, with_attestation
from device_agent.config import Connection
from device_agent.core.acceptance import MAX_CHAIN
from device_agent.core.certificates import load, read_bundle
from device_agent.core.clock import Moment
from device_agent.core.events import (
    Ask,
    Event,
    Route,
    Send,
)
from device_agent.core.record import Anchor, Credential
from device_agent.core.stored import Bootstrap, StoredRecord
from device_agent.errors import (
    BadInputError,
    ChannelError,
    NotAdmittedError,
    NotEnrolledError,
)
from device_agent.est_asking import EstAsking
from device_agent.hearing import heard
from device_agent.life import Life
from device_agent.ports import (
    Attestor,
    ClaimLogin,
    HttpsLogin,
    Link,
    OperationalLogin,
    RecoveryLogin,
    Sidecar,
    Ways,
)
from device_agent.requesting import request_for
from device_agent.tls import client_context, is_outdated, show
from device_agent.wire import replies
from device_agent.wire.identity import Identity, parse_name, serial_hex
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from device_agent.wire.requests import (
    CHALLENGED,
    Enroll,
    ProofKind,
    Request,
    StatusQuery,
)
from device_agent.wire.topics import OperationalTopics

_log = logging.getLogger(__name__)


class Host(Protocol):
    """Whoever uses the operational connection beside the requests. Nothing here may raise."""

    def message(self, topic: str, payload: bytes) -> None:
        """Take a message that is no reply."""
        ...

    async def opened(self, link: Link, topics: OperationalTopics) -> None:
        """Use a connection that was just made."""
        ...

    async def report(self) -> None:
        """Tell the state again: it has changed."""
        ...

    async def closing(self) -> None:
        """Let go of the connection, which is closed next."""
        ...

    def lost(self, why: str) -> None:
        """Hear that the connection has ended by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connected:
    link: Link
    serial: str
    tls: ssl.SSLContext
    stack: AsyncExitStack
    listener: "_Listener"


class _Listener:
    """Hears one connection, and tells only what the one in use has to say."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.is_in_use = True
        self.has_ended = False

    def message(self, topic: str, payload: bytes) -> None:
        self._host.message(topic, payload)

    def lost(self, why: str) -> None:
        self.has_ended = True
        if self.is_in_use:
            self._host.lost(why)


class Asking:
    """Carries requests. Every method raises `ChannelError` where the way is not open."""

    def __init__(
        self,
        life: Life,
        ways: Ways,
        *,
        host: Host,
        new_id: Callable[[], str],
        attestor: Callable[[StoredRecord], Attestor],
        connection: Connection,
    ) -> None:
        self._life, self._ways, self._host, self._new_id = life, ways, host, new_id
        self._attestor, self._connection = attestor, connection
        self._est = EstAsking(life, ways)
        self._connected: _Connected | None = None

    @property
    def is_lent(self) -> bool:
        """Whether no operational connection is ours to make: it is lent, or there is no broker."""
        active = self._life.record.life.active
        has_none = active is not None and not active.has_broker
        return has_none or self._connection is Connection.LENT

    @property
    def serial(self) -> str | None:
        """The certificate of the connection that is open, as far as is known."""
        return None if self._connected is None else self._connected.serial

    async def send(self, send: Send) -> Event | replies.Issued:
        """Ask; return what the table makes of the reply, or an answer that must be judged first.

        Raises:
            ChannelError: no reply. NotAdmittedError: the credential was turned away.
            RefusedError: the server answered with a problem.
        """
        if self._est.carries(send):
            return await self._est.send(send)
        request = request_for(send.ask, self._life.record, message_id=self._new_id())
        match send.route:
            case Route.CLAIM:
                reply = await self._ask_claim(request)
            case Route.RECOVERY:
                reply = await self._ask_recovery(send.ask, request)
            case Route.ACTIVE:
                reply = await self._ask_admitted(self._life.active, request)
            case Route.PENDING:
                reply = await self._ask_admitted(self._pending(), request)
        return heard(reply)

    async def connect(self, credential: Credential, *, servers: tuple[Anchor, ...] | None = None) -> Link:
        """Return the connection made with this credential; another one is closed first.

        `servers` are the anchors to trust the broker by, where they are not those that are held.
        """
        held = self._connected
        if held is not None and held.serial == credential.serial and not held.listener.has_ended:
            return held.link
        await self.disconnect()
        identity = parse_name(credential.broker.name)
        tls, via = self._armed(credential, servers=self._life.record.servers if servers is None else servers)
        login = OperationalLogin(
            host=credential.broker.host,
            port=credential.broker.port,
            identity=identity,
            serial=credential.serial,
            tls=tls,
            via=via,
        )
        listener, stack = _Listener(self._host), AsyncExitStack()
        link = await stack.enter_async_context(self._ways.operational(login, listener))
        stack.callback(setattr, listener, "is_in_use", False)
        self._connected = _Connected(
            link=link, serial=credential.serial, tls=login.tls, stack=stack, listener=listener
        )
        await self._host.opened(link, OperationalTopics(identity=identity, serial=credential.serial))
        return link

    async def try_servers(self, credential: Credential, servers: tuple[Anchor, ...]) -> None:
        """See whether a server can be reached by these roots alone; raises `ChannelError`."""
        if self.is_lent:
            await self._ask_https(credential, StatusQuery(id=self._new_id()), servers=servers)
        else:
            await self.connect(credential, servers=servers)

    async def ask(self, request: Request) -> replies.Reply:
        """Ask as the device that it is now, over the connection or beside it; raises `ChannelError`."""
        return await self._ask_admitted(self._life.active, request)

    async def leave_outdated(self) -> None:
        """Leave a server whose certificate has ended, as shows now that the time is known.

        Raises:
            ChannelError: it was left.
        """
        if self._connected is not None and is_outdated(self._connected.tls, self._life.moment()):
            await self.disconnect()
            raise ChannelError("the server's certificate has ended", hint="is it the right server")

    async def report(self) -> None:
        """Tell the device's state again, where there is a connection; else the next one does it."""
        try:
            await self._host.report()
        except ChannelError as error:
            _log.info("%s; the state is told on the next connection", error)

    async def disconnect(self) -> None:
        """Close the connection, if there is one."""
        connected, self._connected = self._connected, None
        if connected is not None:
            await self._host.closing()
            await connected.stack.aclose()

    async def _ask_admitted(self, credential: Credential, request: Request) -> replies.Reply:
        """Ask on the operational connection; over HTTPS where that is lent, or does not get through."""
        servers = self._life.record.servers
        if self.is_lent:
            return await self._ask_https(credential, request, servers=servers)
        try:
            link = await self.connect(credential)
        except NotAdmittedError:
            raise
        except ChannelError as error:
            if self._life.record.recovery is None or not self._is_at_known_broker(credential):
                raise
            _log.info("%s; asking over HTTPS", error)
            return await self._ask_https(credential, request, servers=servers)
        return await link.ask(request)

    def _is_at_known_broker(self, credential: Credential) -> bool:
        """Tell whether a broker that cannot be reached is no news.

        A new one that the device never reached must not be confirmed: the certificate that opens the old
        one would be given up.
        """
        active = self._life.record.life.active
        return active is None or _place(active) == _place(credential)

    async def _ask_https(
        self, credential: Credential, request: Request, *, servers: tuple[Anchor, ...]
    ) -> replies.Reply:
        address = self._life.record.recovery
        if address is None:
            raise ChannelError(
                "the server named no HTTPS address", hint="connect over MQTT: run without --lend"
            )
        tls, via = self._armed(credential, servers=servers)
        login = HttpsLogin(host=address.host, port=address.port, serial=credential.serial, tls=tls, via=via)
        async with self._ways.https(login) as asker:
            reply = await asker.ask(request)
        if isinstance(reply, replies.Problem) and reply.code is ProblemCode.NOT_CURRENT:
            # A broker would not even let it in; recovery says what became of it.
            raise NotAdmittedError(f"the server does not admit this certificate: {reply.detail}")
        return reply

    def _pending(self) -> Credential:
        credential = self._life.pending.credential
        if credential is None:
            raise NotEnrolledError("no new certificate is here yet")
        return credential

    def _armed(
        self, credential: Credential, *, servers: tuple[Anchor, ...]
    ) -> tuple[ssl.SSLContext, Sidecar | None]:
        """Return a context that authenticates, or one and who stands in its place."""
        context = client_context(servers, moment=self._life.moment())
        signer = self._life.signer(credential.key)
        return context, signer.arm(context, chain_pem=credential.certificate + credential.chain)

    async def _ask_claim(self, request: Request) -> replies.Reply:
        record = self._life.record
        if record.recovery is not None and record.life.active is not None and _is_by_code(record):
            try:
                return await self._ask_by_code(record, record.recovery, request)
            except ChannelError as error:
                if record.bootstrap is None:
                    raise
                _log.info("%s; asking at the bootstrap listener", error)
        if record.bootstrap is None:
            raise NotEnrolledError(
                "this device waits for a station", hint="device-agent enroll --serial PATH"
            )
        if record.bootstrap.domain:
            return await self._ask_adopted(record, record.bootstrap, request)
        login = ClaimLogin(
            host=record.bootstrap.host,
            port=record.bootstrap.port,
            client=self._life.pending.key_hash,
            tls=_claim_context(record, record.bootstrap, self._life.moment()),
        )
        # One client id may be connected once, and the broker there takes nobody's place.
        async with self._ways.claim(login) as asker:
            if isinstance(request, Enroll) and request.proof.kind in CHALLENGED:
                attestor, pending = self._attestor(record), self._life.pending
                return await ask_with_evidence(asker, request, attestor, pending=pending, new_id=self._new_id)
            if isinstance(request, Enroll) and request.proof.kind is ProofKind.PIV:
                key_der = self._life.signer(self._life.pending.key).public_key_der
                request = with_attestation(request, record, key_der=key_der)
            return await asker.ask(request)

    async def _ask_by_code(
        self, record: StoredRecord, address: replies.HttpsAddress, request: Request
    ) -> replies.Reply:
        """Show a code over HTTPS, which every device that has had a certificate knows the way to."""
        tls = client_context(record.servers, moment=self._life.moment())
        login = HttpsLogin(host=address.host, port=address.port, serial="", tls=tls)
        async with self._ways.https(login) as asker:
            return await asker.ask(request)

    async def _ask_adopted(
        self, record: StoredRecord, bootstrap: Bootstrap, request: Request
    ) -> replies.Reply:
        """Ask as the device that a certificate of another CA stands for, where that was adopted."""
        tls = _claim_context(record, bootstrap, self._life.moment())
        login = OperationalLogin(
            host=bootstrap.host,
            port=bootstrap.port,
            identity=Identity(domain=bootstrap.domain, device_id=record.device_id),
            serial=_serial_of(Path(bootstrap.claim_certificate)),
            tls=tls,
        )
        listener = _Listener(self._host)
        listener.is_in_use = False
        async with self._ways.operational(login, listener) as link:
            return await link.ask(request)

    async def _ask_recovery(self, ask: Ask, request: Request) -> replies.Reply:
        record = self._life.record
        if record.recovery is None or record.fleet is None or record.domain is None:
            raise ChannelError(
                "the server named no way back for a certificate that is turned away",
                hint="ask the operator for a new code",
            )
        credential = self._pending() if ask is Ask.CONFIRM else self._life.active
        login = RecoveryLogin(
            host=record.recovery.host,
            port=record.recovery.port,
            fleet=record.fleet,
            domain=record.domain,
            certificate=credential.certificate,
            sign=self._life.signer(credential.key).sign,
            tls=client_context(record.servers, moment=self._life.moment()),
        )
        async with self._ways.recovery(login) as asker:
            return await asker.ask(request)


def _claim_context(record: StoredRecord, bootstrap: Bootstrap, moment: Moment) -> ssl.SSLContext:
    context = client_context(record.servers, moment=moment)
    show(context, bootstrap.claim_certificate, bootstrap.claim_key)
    return context


def _is_by_code(record: StoredRecord) -> bool:
    return record.life.proof is not None and record.life.proof.kind is ProofKind.CODE


def _serial_of(certificate: Path) -> str:
    """Return the serial number of the leaf that a PEM file begins with; raises `BadInputError`."""
    try:
        return serial_hex(load(read_bundle(certificate.read_text(), most=MAX_CHAIN)[0]).serial_number)
    except (OSError, UnicodeDecodeError, MalformedMessageError) as error:
        raise BadInputError(f"{certificate} holds no certificate", hint="--adopt CERT,KEY") from error


def _place(credential: Credential) -> tuple[str, int]:
    return credential.broker.host, credential.broker.port
