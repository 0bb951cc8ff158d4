"""Talks to the guard over MQTT: orders and their replies, and the events that it tells.

paho's network thread lives here and nowhere else; all that it hears is handed to the event loop. An event is
acknowledged to the broker only after whoever reads it has come back for the next one.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet.broker.words import MalformedWordsError, Reply, read_decision, read_event, read_reply
from fleet.core.access import CONTROL, GUARD_DECISIONS, GUARD_EVENTS, GUARD_REPLIES
from fleet.errors import FleetError, UnreachableError
from fleet.grants import TopicDecision
from fleet.home import KeyPairFiles
from fleet.live_tls import OwnClient
from fleet.model import BrokerEvent

_KEEPALIVE_S = 15
_MOST_DECISIONS = 10_000
_NOT_AUTHORIZED = 135
"""What paho makes of a CONNACK 5 of MQTT 3.1.1 (MQTT 5 2.4)."""

_log = logging.getLogger(__name__)


class GuardRefusedError(FleetError):
    """The guard understood an order and did not follow it; `code` is its word for why."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the broker's guard refused: {code}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkAddress:
    """Where the guard's broker listens, by what name it is known, and how we prove who we are."""

    address: str
    port: int
    host: str
    trust: Path
    certificate: Path
    key: Path
    client_id: str


class GuardLink:
    """The connection of the fleet's service to one guard; it reconnects by itself."""

    def __init__(self, where: LinkAddress, *, broker: str) -> None:
        self._where = where
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._orders = itertools.count(1)
        self._waiting: dict[str, asyncio.Queue[Reply]] = {}
        self._events: asyncio.Queue[tuple[BrokerEvent, int]] = asyncio.Queue()
        self._decisions: asyncio.Queue[TopicDecision] = asyncio.Queue(_MOST_DECISIONS)
        self._done_stamp = 0
        self._refused = False
        self.up = asyncio.Event()
        self.turned = asyncio.Event()
        """Set at every change of the connection; whoever waits for it clears it."""
        pair = KeyPairFiles(certificate=where.certificate, key=where.key)
        self._tls = OwnClient(host=where.host, trust=where.trust, files=pair)
        self._client = self._make_client()

    def start(self) -> None:
        """Begin to connect; `up` is set when the guard can be asked."""
        self._client.connect_async(self._where.address, self._where.port, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    async def close(self) -> None:
        """Disconnect, and end the network thread."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        self._lose()

    @property
    def refused(self) -> bool:
        """Say whether the broker's last answer was that we are not authorised."""
        return self._refused

    def forget_stamps(self) -> None:
        """Begin to count anew: the broker was restarted, and its clock may have been set back."""
        self._done_stamp = 0

    async def order(self, verb: str, *, body: bytes = b"", timeout_s: float = 10.0) -> list[Reply]:
        """Give an order and return its replies.

        Raises:
            GuardRefusedError: the guard said no.
            UnreachableError: there is no connection, or no answer in time; the order may have been followed.
        """
        order_id = str(next(self._orders))
        replies: asyncio.Queue[Reply] = asyncio.Queue()
        self._waiting[order_id] = replies
        try:
            async with asyncio.timeout(timeout_s):
                self._send(f"{order_id} {verb}\n".encode() + body)
                return await self._collect(replies)
        except TimeoutError as error:
            raise UnreachableError("the broker's guard does not answer") from error
        finally:
            del self._waiting[order_id]

    async def events(self) -> AsyncIterator[BrokerEvent]:
        """Yield each event once; it is acknowledged when the next one is asked for."""
        while True:
            event, message_id = await self._events.get()
            if event.stamp > self._done_stamp:
                yield event
                self._done_stamp = event.stamp
            self._client.ack(message_id, 1)

    async def decisions(self) -> AsyncIterator[TopicDecision]:
        """Yield a sample of what the guard allowed and denied, from now on."""
        while True:
            yield await self._decisions.get()

    def _send(self, payload: bytes) -> None:
        # QoS 0: an order is for the guard of now; sent again after a reconnect it would only confuse.
        if (
            not self.up.is_set()
            or self._client.publish(CONTROL, payload, qos=0).rc != MQTTErrorCode.MQTT_ERR_SUCCESS
        ):
            raise UnreachableError(
                "the broker is not connected", hint="see broker/mosquitto.log in the fleet home"
            )

    async def _collect(self, replies: asyncio.Queue[Reply]) -> list[Reply]:
        found: list[Reply] = []
        while not found or found[-1].more:
            found.append(await replies.get())
            if found[-1].error:
                if found[-1].error == "lost":
                    raise UnreachableError("the connection to the broker was lost")
                raise GuardRefusedError(found[-1].error)
        return found

    def _make_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._where.client_id,
            clean_session=False,  # events wait for us while we are away
            protocol=mqtt.MQTTv311,
            manual_ack=True,
        )
        client.tls_set_context(self._tls.context)
        client.reconnect_delay_set(min_delay=1, max_delay=5)
        client.on_socket_open = _without_delay
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    def reload_tls(self) -> bool:
        """Read trust, certificate and key again; say whether the connection is made anew to show another one.

        Raises:
            FleetError: a file is not right; the connection goes on.
        """
        if not self._tls.reload():
            return False
        self.up.clear()
        connected = self._client.socket()
        if isinstance(connected, socket.socket):
            # paho's thread sees the end of the stream, and connects again; it minds its own TLS object.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)
        return True

    # What follows runs in paho's thread, and only hands over.

    def _hand_over(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._hand_over(lambda: self._be_refused(reason.value == _NOT_AUTHORIZED))
        else:
            client.subscribe([(GUARD_EVENTS, 1), (GUARD_DECISIONS, 0)])

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _message_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if not any(reason.is_failure for reason in reasons):
            self._hand_over(self._come_up)

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._hand_over(self._lose)

    def _on_message(self, client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        topic, text, message_id = message.topic, message.payload.decode("ascii", "replace"), message.mid
        if topic == GUARD_EVENTS:
            self._hand_over(lambda: self._take_event(text, message_id))
        else:
            if message.qos > 0:
                client.ack(message_id, message.qos)
            if topic == GUARD_REPLIES:
                self._hand_over(lambda: self._take_reply(text))
            elif topic == GUARD_DECISIONS:
                self._hand_over(lambda: self._take_decision(text))

    # What follows runs in the event loop.

    def _be_refused(self, not_authorised: bool) -> None:
        self._refused = not_authorised
        self.turned.set()

    def _come_up(self) -> None:
        self._refused = False
        self.up.set()
        self.turned.set()

    def _lose(self) -> None:
        self.up.clear()
        self.turned.set()
        while not self._events.empty():
            self._events.get_nowait()  # the broker sends again what was not acknowledged
        for order_id, replies in self._waiting.items():
            replies.put_nowait(Reply(order_id=order_id, error="lost"))

    def _take_event(self, text: str, message_id: int) -> None:
        try:
            self._events.put_nowait((read_event(text), message_id))
        except MalformedWordsError as error:
            _log.error("%s", error)
            self._client.ack(message_id, 1)

    def _take_decision(self, text: str) -> None:
        # A sample: whoever does not keep up misses some.
        with contextlib.suppress(asyncio.QueueFull):
            try:
                self._decisions.put_nowait(read_decision(text))
            except MalformedWordsError as error:
                _log.error("%s", error)

    def _take_reply(self, text: str) -> None:
        try:
            reply = read_reply(text, broker=self._broker)
        except MalformedWordsError as error:
            _log.error("%s", error)
            return
        waiting = self._waiting.get(reply.order_id)
        if waiting is not None:
            waiting.put_nowait(reply)


def _without_delay(_client: mqtt.Client, _userdata: object, sock: object) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
