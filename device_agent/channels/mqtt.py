"""MQTT 3.1.1 to either listener: requests with their replies, and messages beside them. On aiomqtt.

A reply counts only for a request of this connection that waits for it, on the topic that is derived from
who asks. Everything of aiomqtt stays here and in `mqtt_client`; what goes wrong leaves as `ChannelError`.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import aiomqtt

from device_agent.background import in_background
from device_agent.channels.mqtt_client import Connection, Session, number_of
from device_agent.errors import ChannelError
from device_agent.ports import ClaimLogin, Listener, OperationalLogin, Tunnel
from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.messages import encode, parse_reply
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request
from device_agent.wire.topics import EnrollTopics, OperationalTopics

_log = logging.getLogger(__name__)

CLAIM_KEEPALIVE = timedelta(seconds=15)
"""The most that the bootstrap listener takes: a lost asker must not block its own way for long."""
_QOS = 1
_DRAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOptions:
    """How long to wait: for a connection, for an acknowledgement, and for a reply."""

    timeout: timedelta = timedelta(seconds=10)
    reply_timeout: timedelta = timedelta(seconds=20)
    keepalive: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Login:
    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext
    request_topic: str
    response_topic: str
    session: Session
    keepalive: timedelta
    tunnel: Tunnel | None = None


class MqttLink:
    """One connection. Made by `claim_link` or `operational_link`."""

    def __init__(
        self, client: aiomqtt.Client, login: _Login, *, listener: Listener, options: MqttOptions
    ) -> None:
        self._client, self._login, self._listener, self._options = client, login, listener, options
        self._waiting: dict[str, asyncio.Future[Reply | None]] = {}
        self._ended = False

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request; raises `ChannelError`."""
        waiting: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = waiting
        try:
            async with asyncio.timeout(self._options.reply_timeout.total_seconds()):
                await self.publish(self._login.request_topic, encode(request))
                reply = await waiting
        except TimeoutError as error:
            raise ChannelError(f"no reply to {request.kind} in time from {self._peer}") from error
        finally:
            del self._waiting[request.id]
        if reply is None:
            raise ChannelError(f"the connection ended before the reply to {request.kind}")
        return reply

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return once the broker has the message (QoS 1); raises `ChannelError`."""
        try:
            await self._client.publish(topic, payload, qos=_QOS, retain=retain)
        except (aiomqtt.MqttError, ValueError) as error:
            raise ChannelError(f"cannot publish to {self._peer}: {error}") from error
        _heed_cancellation()

    async def subscribe(self, topic_filter: str) -> None:
        """Return once the subscription stands (QoS 1); raises `ChannelError`."""
        try:
            granted = await self._client.subscribe(topic_filter, qos=_QOS)
        except (aiomqtt.MqttError, ValueError) as error:
            raise ChannelError(f"cannot subscribe at {self._peer}: {error}") from error
        _heed_cancellation()
        # paho hands MQTT 3.1.1 return codes on as they are; 128 is a refusal (3.9.3).
        if any(number_of(code) >= 0x80 for code in granted):
            raise ChannelError(f"{self._peer} does not let this device subscribe to {topic_filter}")

    async def read(self) -> None:
        """Hand out what arrives, until the connection ends. Run by whoever opened the link."""
        try:
            async for message in self._client.messages:
                self._take(str(message.topic), message.payload)
        except aiomqtt.MqttError as error:
            _log.debug("the connection to %s ended: %s", self._peer, error.__cause__ or error)
            self._end(f"{self._peer} closed it, or cannot be reached any more")
        finally:
            self._end("closed")

    @property
    def _peer(self) -> str:
        return f"{self._login.host}:{self._login.port}"

    def _end(self, why: str) -> None:
        if not self._ended:
            self._ended = True
            self._listener.lost(why)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)

    def _take(self, topic: str, payload: bytes) -> None:
        if topic != self._login.response_topic:
            self._listener.message(topic, payload)
            return
        try:
            reply = parse_reply(payload[: MAX_BODY_BYTES + 1])
        except MalformedMessageError as error:
            _log.warning("ignored a reply that cannot be read: %s", error)
            return
        waiting = self._waiting.get(reply.id)
        if waiting is None or waiting.done():
            _log.info("ignored a reply that nobody waits for, %s", reply.kind)
        else:
            waiting.set_result(reply)


@asynccontextmanager
async def claim_link(login: ClaimLogin, *, options: MqttOptions) -> AsyncIterator[MqttLink]:
    """Connect to the bootstrap listener; raises `ChannelError`."""
    topics = EnrollTopics(client=login.client)
    opened = _opened(
        _Login(
            host=login.host,
            port=login.port,
            client_id=login.client,
            tls=login.tls,
            request_topic=topics.request,
            response_topic=topics.response,
            session=Session.FRESH,
            keepalive=min(CLAIM_KEEPALIVE, options.keepalive),
        ),
        listener=_Nobody(),
        options=options,
    )
    async with opened as link:
        yield link


@asynccontextmanager
async def operational_link(
    login: OperationalLogin, *, listener: Listener, options: MqttOptions, tunnel: Tunnel | None = None
) -> AsyncIterator[MqttLink]:
    """Connect to the operational listener, into the device's lasting session; raises `ChannelError`."""
    topics = OperationalTopics(identity=login.identity, serial=login.serial)
    opened = _opened(
        _Login(
            host=login.host,
            port=login.port,
            client_id=login.identity.name,
            tls=login.tls,
            request_topic=topics.request,
            response_topic=topics.response,
            session=Session.LASTING,
            keepalive=options.keepalive,
            tunnel=tunnel,
        ),
        listener=listener,
        options=options,
    )
    async with opened as link:
        yield link


@asynccontextmanager
async def _opened(login: _Login, *, listener: Listener, options: MqttOptions) -> AsyncIterator[MqttLink]:
    connection = Connection(
        login.host,
        login.port,
        client_id=login.client_id,
        tls=login.tls,
        session=login.session,
        keepalive=login.keepalive,
        timeout=options.timeout,
        tunnel=login.tunnel,
    )
    await connection.open()
    link = MqttLink(connection.client, login, listener=listener, options=options)
    async with in_background(link.read()) as reading:
        try:
            await link.subscribe(login.response_topic)
            yield link
        finally:
            # In this order: what has arrived is acknowledged already, and no broker sends it again.
            await connection.close()
            await asyncio.wait({reading}, timeout=_DRAIN_SECONDS)


def _heed_cancellation() -> None:
    """End a task that was cancelled just as an acknowledgement came.

    Python 3.11's `wait_for`, by which aiomqtt waits, forgets the cancellation then (cpython gh-86296).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Nobody:
    """The bootstrap listener has nothing to say by itself."""

    def message(self, topic: str, _payload: bytes) -> None:
        _log.info("ignored a message on %s", topic)

    def lost(self, why: str) -> None:
        _log.debug("the bootstrap connection ended: %s", why)
