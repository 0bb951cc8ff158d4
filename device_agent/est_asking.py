"""What is asked of an EST server for each action of the table, and what its answers mean to it.

EST knows two acts, a first certificate and a next one. Where the server is a fleet's, all the rest goes the
ways of every agent. Where it is another maker's, nobody is told anything: a new certificate is confirmed by
a TLS connection that it opens, and is then the one in use.
"""

import logging
import ssl
from collections.abc import Callable

from device_agent.core.acceptance import MAX_CHAIN
from device_agent.core.certificates import bundle, load, read_bundle, read_leaf
from device_agent.core.csr import subject_der
from device_agent.core.est import Chain, EstServer, chain_of
from device_agent.core.est_request import names_of, request
from device_agent.core.events import Ask, Confirmed, DoneAck, Event, Reported, Route, Send
from device_agent.core.record import Credential
from device_agent.core.stored import StoredRecord, nowhere
from device_agent.errors import ChannelError, KeyStoreError, NotEnrolledError, UnacceptableAnswerError
from device_agent.hearing import heard
from device_agent.life import Life
from device_agent.ports import EstClient, EstIssued, EstLogin, EstReply, Linked, Ways
from device_agent.tls import client_context, show
from device_agent.wire.identity import Identity, parse_domain
from device_agent.wire.pace import own_jitter, renew_at
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import BrokerAddress, Issued, ReportedState
from device_agent.wire.requests import ProofKind
from device_agent.wire.secret import Secret

_log = logging.getLogger(__name__)

_NO_DOMAIN = "est"
_BY_EST = {
    (Ask.ENROLL, Route.CLAIM),
    (Ask.RENEW, Route.ACTIVE),
    (Ask.DONE, Route.ACTIVE),  # a server takes no such word of EST's clients
}


class EstAsking:
    """Carries what EST can carry. Every method raises `ChannelError` where the server is not reached."""

    def __init__(self, life: Life, ways: Ways) -> None:
        self._life, self._ways = life, ways

    def carries(self, send: Send) -> bool:
        """Tell whether something goes this way: certificates do, and all where there is no fleet to ask."""
        record = self._life.record
        if record.est is None:
            return False
        return (send.ask, send.route) in _BY_EST or self._is_alone(record)

    async def send(self, send: Send) -> Event | Issued:
        """Ask, as `Asking.send` does, and raise as it does."""
        match send.ask:
            case Ask.ENROLL:
                return await self._first()
            case Ask.RENEW:
                return await self._next()
            case Ask.CONFIRM:
                return await self._try(send)
            case Ask.DONE:
                return DoneAck(serial=self._life.active.serial)
            case Ask.STATUS:
                return await self._look(send)

    async def _first(self) -> Issued:
        record = self._life.record
        proof = record.life.proof
        if proof is None:
            raise NotEnrolledError("there is no code and no claim to enroll by", hint="device-agent enroll")
        context = self._context(record)
        server = _server(record)
        if server.certificate:
            show(context, server.certificate, server.key)
        code = proof.code if proof.kind is ProofKind.CODE else None
        client = self._client(record, context, user=record.device_id, password=code)
        # What cannot be judged is not asked for: a code may be good for one certificate alone.
        known, linked = await client.cacerts(), await _linked(client)
        reply = await client.enroll(self._request(subject_der(record.device_id), b""), linked=linked)
        return self._issued(reply, known)

    async def _next(self) -> Issued:
        """Ask over a connection with the certificate in use, for its very names (RFC 7030 4.2.2)."""
        record, active = self._life.record, self._life.active
        subject, alternatives = names_of(load(read_bundle(active.certificate, most=1)[0]))
        client = self._client(record, self._armed(record, active))
        known, linked = await client.cacerts(), await _linked(client)
        reply = await client.reenroll(self._request(subject, alternatives), linked=linked)
        return self._issued(reply, known)

    async def _try(self, send: Send) -> Confirmed:
        """Connect with the new certificate: a server that does not admit it says so in TLS."""
        if send.route is Route.RECOVERY:
            raise ChannelError("the server has turned the new certificate away", hint="device-agent doctor")
        credential = self._life.pending.credential
        if credential is None:
            raise NotEnrolledError("no new certificate is here yet")
        record = self._life.record
        await self._client(record, self._armed(record, credential)).cacerts()
        return Confirmed(serial=credential.serial)

    async def _look(self, send: Send) -> Reported:
        if send.route is Route.RECOVERY:
            raise ChannelError(
                "the server has turned the certificate away, and EST has no way back",
                hint="a new code, then: device-agent recover",
            )
        return Reported(serial=self._life.active.serial, state=ReportedState.ACTIVE)

    def _request(self, subject: bytes, alternatives: bytes) -> Callable[[bytes], bytes]:
        signer = self._life.signer(self._life.pending.key)

        def made(link: bytes) -> bytes:
            return request(
                subject,
                alternatives,
                public_key_der=signer.public_key_der,
                sign=signer.sign,
                link=link,
            )

        return made

    def _issued(self, reply: EstReply, known: tuple[bytes, ...]) -> Issued:
        """Return the answer as every channel has it; raises `RefusedError` for what is none."""
        if not isinstance(reply, EstIssued):
            heard(reply)
            raise ChannelError("the server did not answer the request")
        key = self._life.signer(self._life.pending.key).public_key_der
        try:
            chain = chain_of(reply.certificates, known, key=key)
            return self._reply(chain, reply)
        except MalformedMessageError as error:
            raise UnacceptableAnswerError(f"what the EST server issued is not acceptable: {error}") from error

    def _reply(self, chain: Chain, issued: EstIssued) -> Issued:
        leaf, place = read_leaf(chain.leaf), issued.place
        wish = None if place is None else place.renew_after
        jitter = own_jitter(leaf.key_hash)
        return Issued(
            id="-",
            serial=leaf.serial,
            certificate=bundle([chain.leaf]),
            chain=bundle(chain.above[: MAX_CHAIN - 1]),
            trust=bundle(chain.roots),
            link=bundle(chain.links) or None,
            renew_after=renew_at(leaf.not_before, leaf.not_after, renew_after=wish, jitter=jitter),
            broker=self._broker() if place is None else place.broker,
            recovery=None if place is None else place.recovery,
        )

    def _broker(self) -> BrokerAddress:
        """Return where to use a certificate whose server does not say it: where the one before it is used.

        Where no fleet names this device, its domain is the label of the server, if that can be one.
        """
        record = self._life.record
        if record.life.active is not None:
            return record.life.active.broker
        domain = self._life.domain or record.domain or _domain(_server(record))
        return nowhere(Identity(domain=domain, device_id=self._life.device_id).name)

    def _client(
        self, record: StoredRecord, tls: ssl.SSLContext, *, user: str = "", password: Secret | None = None
    ) -> EstClient:
        return self._ways.est(EstLogin(server=_server(record), tls=tls, user=user, password=password))

    def _armed(self, record: StoredRecord, credential: Credential) -> ssl.SSLContext:
        context = self._context(record)
        chain = credential.certificate + credential.chain
        if self._life.signer(credential.key).arm(context, chain_pem=chain) is not None:
            raise KeyStoreError(
                "this Python cannot use the token's key for EST",
                hint="run the agent with the system's Python",
            )
        return context

    def _context(self, record: StoredRecord) -> ssl.SSLContext:
        return client_context(record.est_servers, moment=self._life.moment())

    def _is_alone(self, record: StoredRecord) -> bool:
        """Tell whether no fleet is behind the server, as far as the certificates that are held show."""
        life = record.life
        held = life.active if life.pending is None else life.pending.credential or life.active
        return held is not None and not held.has_broker


async def _linked(client: EstClient) -> Linked:
    return Linked.WHERE_TLS_CAN if await client.wants_link() else Linked.NO


def _server(record: StoredRecord) -> EstServer:
    if record.est is None:
        raise NotEnrolledError("this device knows no EST server", hint="device-agent enroll --est URL")
    return record.est


def _domain(server: EstServer) -> str:
    try:
        return parse_domain(server.label)
    except MalformedMessageError:
        return _NO_DOMAIN
