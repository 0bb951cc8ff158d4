"""Takes devices' requests from the broker and brings the answers back.

What came with quality of service 1 is acknowledged only after its answer is durable and was handed to the
broker on the same connection, so a crash makes the broker deliver it again; the use cases are idempotent. It
never reads an answer topic from a request: topics are derived from who asks. Everything of paho stays here.
"""

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet.errors import UnreachableError

_KEEPALIVE_SECONDS = 30
_CONNECT_SECONDS = 10
_POST_SECONDS = 10
_WORKERS = 64
_HIGH_WATER = 512
"""So many requests wait in memory; beyond it the socket is not read, and the broker holds the rest."""
_LONGEST_BACKOFF_SECONDS = 15.0
_TICK_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is published, and where."""

    topic: str
    body: bytes


Answerer: TypeAlias = Callable[[str, bytes], Awaitable[Answer | None]]
"""Answers one message (topic, body); None where nobody can be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLogin:
    """How the server itself reaches a broker. `client_id` names its persistent session there."""

    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext
    topics: tuple[tuple[str, int], ...]
    """Each with its quality of service."""


class Consumer:
    """The server's own MQTT client. `run` stays connected until it is cancelled."""

    def __init__(self, login: BrokerLogin, *, answerer: Answerer) -> None:
        self._login = login
        self._answerer = answerer
        self._waiting: asyncio.Queue[tuple[int, paho.MQTTMessage]] = asyncio.Queue()
        self._connection = 0
        """Counts connections: a message id must be acknowledged on the one that it came by."""
        self._attached: int | None = None
        self._paused = False
        self._lost: asyncio.Future[str] = asyncio.Future()
        self._subscribed: asyncio.Future[str] = asyncio.Future()
        self._posted: dict[int, asyncio.Future[None]] = {}
        """What was posted, by its message id, until the broker has it."""
        self._client = self._make_client()

    @property
    def connected(self) -> bool:
        """Tell whether requests arrive now."""
        return self._subscribed.done() and not self._subscribed.cancelled() and not self._lost.done()

    async def post(self, topic: str, body: bytes) -> None:
        """Return once the broker has a message that it retains (QoS 1).

        Raises:
            UnreachableError: it is not connected, or did not say so in time.
        """
        await self._hand_over(topic, body, retain=True)

    async def publish(self, topic: str, body: bytes) -> None:
        """Return as `post` does, for a message that is for who listens now, or has a session there."""
        await self._hand_over(topic, body, retain=False)

    async def _hand_over(self, topic: str, body: bytes, *, retain: bool) -> None:
        if not self.connected:
            raise UnreachableError("the broker is not connected", hint="fleet status")
        has_it: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        message_id = self._client.publish(topic, body, qos=1, retain=retain).mid
        self._posted[message_id] = has_it
        try:
            async with asyncio.timeout(_POST_SECONDS):
                await has_it
        except TimeoutError as error:
            raise UnreachableError("the broker does not acknowledge what is posted to it") from error
        finally:
            self._posted.pop(message_id, None)

    def come_again(self) -> None:
        """Leave the connection for another one, with what TLS shows then; the broker keeps the session."""
        self._lose("another certificate is to be shown")

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve; `ready` is called whenever the subscriptions stand (anew)."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_WORKERS):
                group.create_task(self._work())
            group.create_task(self._stay_connected(ready))

    async def _stay_connected(self, ready: Callable[[], None]) -> None:
        failures = 0
        while True:
            try:
                await self._one_connection(ready)
            except (OSError, TimeoutError, ValueError) as error:
                _log.warning("the broker cannot be reached: %s", error)
            failures = 0 if self._subscribed.done() else failures + 1
            # Full jitter, so that servers do not come back in step.
            await asyncio.sleep(random.uniform(0.05, min(_LONGEST_BACKOFF_SECONDS, 0.2 * 2**failures)))  # noqa: S311 - spreads load, keeps no secret

    async def _one_connection(self, ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._lost, self._subscribed = loop.create_future(), loop.create_future()
        self._connection += 1
        try:
            await self._connect(loop)
            self._attach(loop)
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.wait({self._subscribed, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if not self._lost.done():
                ready()
            while not self._lost.done():
                self._client.loop_misc()
                await asyncio.wait({self._lost}, timeout=_TICK_SECONDS)
            _log.warning("the connection to the broker ended: %s", self._lost.result())
        finally:
            self._close()

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect in a thread: paho does it, and shakes hands, synchronously."""
        login = self._login
        connecting = loop.run_in_executor(
            None, self._client.connect, login.host, login.port, _KEEPALIVE_SECONDS
        )
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            await asyncio.wait({connecting})  # or a socket would be left behind
            raise

    async def _work(self) -> None:
        while True:
            connection, message = await self._waiting.get()
            self._resume()
            try:
                topic = message.topic
            except UnicodeDecodeError:
                topic = ""
            answer = await self._answer(topic, bytes(message.payload))
            if connection != self._connection:
                continue  # the broker delivers it again, and it is answered the same
            if answer is not None:
                self._client.publish(answer.topic, answer.body, qos=1)
            self._client.ack(message.mid, message.qos)

    async def _answer(self, topic: str, body: bytes) -> Answer | None:
        try:
            return await self._answerer(topic, body)
        except Exception:  # noqa: BLE001 - the outermost edge of one message; others must not suffer from it
            _log.exception("a message on %r could not be answered", topic[:256])
            return None

    def _make_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._login.client_id,
            clean_session=False,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.tls_set_context(self._login.tls)
        # No limit: an answer that waited inside paho could be overtaken by the acknowledgement.
        client.max_inflight_messages_set(0)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    # paho calls what follows. During `connect` it does so in the thread; nothing is attached to the
    # loop then, and the socket callbacks do nothing.

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._lose(f"refused, {reason}")
        else:
            self._client.subscribe(list(self._login.topics))

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: object,
        _mid: int,
        reasons: Sequence[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._lose("the broker does not let the server subscribe to requests")
        elif not self._subscribed.done():
            self._subscribed.set_result("subscribed")

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._lose(str(reason))

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self._waiting.put_nowait((self._connection, message))
        if self._waiting.qsize() >= _HIGH_WATER and self._attached is not None and not self._paused:
            self._paused = True
            asyncio.get_running_loop().remove_reader(self._attached)

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: object,
        message_id: int,
        _reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        has_it = self._posted.get(message_id)
        if has_it is not None and not has_it.done():
            has_it.set_result(None)

    def _on_register_write(self, _client: paho.Client, _userdata: object, _socket: object) -> None:
        if self._attached is not None:
            asyncio.get_running_loop().add_writer(self._attached, self._writable)

    def _on_unregister_write(self, _client: paho.Client, _userdata: object, _socket: object) -> None:
        if self._attached is not None:
            asyncio.get_running_loop().remove_writer(self._attached)

    def _on_socket_close(self, _client: paho.Client, _userdata: object, _socket: object) -> None:
        self._detach()

    # The socket and the loop.

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        connected = self._client.socket()
        if not isinstance(connected, socket.socket):
            raise ConnectionError("the broker closed the connection at once")
        # Without it, small packets wait for delayed acknowledgements: 20 requests/s instead of 1,500.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._attached, self._paused = connected.fileno(), False
        loop.add_reader(self._attached, self._readable)
        loop.add_writer(self._attached, self._writable)

    def _detach(self) -> None:
        if self._attached is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._attached)
            loop.remove_writer(self._attached)
            self._attached = None

    def _resume(self) -> None:
        if self._paused and self._attached is not None and self._waiting.qsize() < _HIGH_WATER // 2:
            self._paused = False
            loop = asyncio.get_running_loop()
            loop.add_reader(self._attached, self._readable)
            loop.call_soon(self._readable)  # TLS may hold bytes that the socket no longer shows

    def _readable(self) -> None:
        if self._attached is None:
            return
        try:
            self._client.loop_read()
            # A TLS record may hold more packets than one read takes; select would not tell.
            while (
                not self._paused and isinstance(tls := self._client.socket(), ssl.SSLSocket) and tls.pending()
            ):
                self._client.loop_read()
        except (OSError, ValueError) as error:
            self._lose(str(error))

    def _writable(self) -> None:
        try:
            self._client.loop_write()
        except (OSError, ValueError) as error:
            self._lose(str(error))

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)

    def _close(self) -> None:
        """Leave the connection, at once and without a word: the session at the broker stays."""
        self._lose("closed")
        self._detach()
        if isinstance(connected := self._client.socket(), socket.socket):
            with contextlib.suppress(OSError):
                connected.close()
