"""amqtt as the engine of the embedded broker: sessions, subscriptions, delivery. Nothing of it decides.

amqtt changes sessions before it authenticates, hands retained messages and wills to whoever, and forgets
what was in flight when a client left. So only connections that the gate has judged reach it, every topic is
checked by us, and undelivered messages of kept sessions are put back.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action as AmqttAction
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError, MQTTError, NoDataError, ProtocolHandlerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import OutgoingApplicationMessage

from fleet.broker.embedded_shared import inward, is_apart, outward
from fleet.broker.embedded_table import Connection, Table
from fleet.core import access
from fleet.core.access import Who

if TYPE_CHECKING:
    from amqtt.session import IncomingApplicationMessage
    from amqtt.session import Session as AmqttSession

LISTENER = "gate"
_KEPT_SESSION_S = 90 * 24 * 3600
_MOST_WAITING = 100_000
_CHECKS: dict[str, Callable[[Table, Who, str], bool]] = {
    AmqttAction.PUBLISH: Table.may_publish,
    AmqttAction.RECEIVE: Table.may_receive,
    AmqttAction.SUBSCRIBE: Table.may_subscribe,
}

_log = logging.getLogger(__name__)


class _Handler(BrokerProtocolHandler):  # type: ignore[misc]  # amqtt ships no types
    """One connection's protocol; what it could not deliver goes back to the session."""

    stopped = False

    async def stop(self) -> None:
        self.stopped = True
        await super().stop()

    async def mqtt_publish(
        self, topic: str, data: bytes, qos: int | None, retain: bool, ack_timeout: int | None = None
    ) -> object:
        session = self.session
        try:
            if self.stopped:
                raise ProtocolHandlerError("the connection is over")
            return await super().mqtt_publish(topic, data, qos, retain, ack_timeout)
        except (asyncio.CancelledError, TimeoutError, OSError, AMQTTError, MQTTError, ProtocolHandlerError):
            if qos and session is not None and not session.clean_session:
                self.engine.put_back(
                    session, self, OutgoingApplicationMessage(None, topic, qos, data, retain)
                )
            raise


class Engine(Broker):  # type: ignore[misc]  # amqtt ships no types
    """amqtt's broker, without listeners and opinions of its own."""

    def __init__(self, table: Table) -> None:
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind="gate")
        super().__init__(
            BrokerConfig(
                listeners={"default": listener, LISTENER: listener},
                plugins={},
                session_expiry_interval=_KEPT_SESSION_S,
            )
        )
        self._table = table

    async def serve(self, connection: Connection, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        """Serve a connection that was admitted, until it is over; its first packet is CONNECT."""
        try:
            await self.external_connected(reader, writer, LISTENER)
        finally:
            await self._settle(connection)

    def put_back(
        self, session: "AmqttSession", handler: _Handler, message: OutgoingApplicationMessage
    ) -> None:
        """Keep a message for a session's next connection, or give it to the one that is there by now."""
        now = self._get_handler(session)
        if now is not None and now is not handler and session.transitions.is_connected():
            delivery = now.mqtt_publish(message.topic, message.data, message.qos, message.retain)
            self._tasks_queue.append(asyncio.ensure_future(delivery))
        elif session.retained_messages.qsize() < _MOST_WAITING:
            session.retained_messages.put_nowait(message)
        else:
            _log.error("a message for %s is lost: too many wait for it", session.client_id)

    async def _settle(self, connection: Connection) -> None:
        """amqtt leaves some sessions connected after it hung up; the next connection must not find that."""
        session, handler = self._sessions.get(connection.who.client_id, (None, None))
        if session is not None and session.transitions.is_connected():
            await self._stop_handler(handler)
            session.transitions.disconnect()

    async def _authenticate(self, session: "AmqttSession", _: ListenerConfig) -> bool:
        """Say yes only to what the gate let in."""
        connection = self._table.find(session.client_id or "")
        return connection is not None and not connection.ended

    async def _topic_filtering(self, session: "AmqttSession", topic: str, action: AmqttAction) -> bool:
        return self._may(session, topic, action)

    def _may(self, session: "AmqttSession", topic: str, action: AmqttAction) -> bool:
        check = _CHECKS.get(action)
        whos = self._table.who_is(session.client_id or "", name=session.username or "")
        return check is not None and any(check(self._table, who, topic) for who in whos)

    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[_Handler, "AmqttSession"]:
        """Find or make the session of a connection. The gate has ended the one before."""
        handler, fresh = await _Handler.init_from_connect(reader, writer, self.plugins_manager)
        handler.engine = self
        connection = self._table.find(fresh.client_id or "")
        if connection is None:
            raise AMQTTError("a connection that the gate did not let in")
        fresh.username = connection.who.name
        fresh.keep_alive = 0  # the gate's reader minds it
        fresh.will_flag = bool(fresh.will_flag and self._may(fresh, fresh.will_topic, AmqttAction.PUBLISH))
        return handler, await self._session_for(fresh)

    async def _session_for(self, fresh: "AmqttSession") -> "AmqttSession":
        kept, _ = self._sessions.get(fresh.client_id, (None, None))
        if kept is None or fresh.clean_session or kept.clean_session:
            await self._delete_session(fresh.client_id)
            fresh.parent = 0
            return fresh
        for what in ("will_flag", "will_message", "will_topic", "will_qos", "will_retain"):
            setattr(kept, what, getattr(fresh, what))
        kept.username, kept.keep_alive, kept.parent = fresh.username, 0, 1
        return kept

    async def _handle_disconnect(
        self, client_session: "AmqttSession", handler: _Handler, disconnect_waiter: "asyncio.Future[object]"
    ) -> None:
        """Send no will for a connection that we ended, nor one that has become another's."""
        connection = self._table.find(client_session.client_id or "")
        if connection is None or connection.ended:
            client_session.will_flag = False
        await super()._handle_disconnect(client_session, handler, disconnect_waiter)

    async def _handle_message_delivery(
        self,
        client_session: "AmqttSession",
        handler: _Handler,
        wait_deliver: "asyncio.Future[IncomingApplicationMessage | None]",
    ) -> bool:
        """Route what a client published; what travels on shared topics, by connection."""
        message = wait_deliver.result()
        connection = self._table.find(client_session.client_id or "")
        if message is None or not message.topic or connection is None or not is_apart(message.topic):
            goes_on: bool = await super()._handle_message_delivery(client_session, handler, wait_deliver)
            return goes_on
        retained = message.publish_packet is not None and message.publish_packet.retain_flag
        if not retained and self._may(client_session, message.topic, AmqttAction.PUBLISH):
            await self._carry(client_session, connection, message)
        return True

    async def _carry(
        self, session: "AmqttSession", connection: Connection, message: "IncomingApplicationMessage"
    ) -> None:
        inside = inward(connection, message.topic)
        if inside is not None:
            await self._broadcast_message(session, inside, message.data)
            return
        found = outward(self._table, message.topic)
        if found is not None:
            target, topic = found
            _, handler = self._sessions.get(target.who.client_id, (None, None))
            if handler is not None and not handler.stopped:
                # Once or never: no session keeps it for whoever connects next.
                delivery = handler.mqtt_publish(topic, message.data, 0, retain=False)
                self._tasks_queue.append(asyncio.ensure_future(delivery))

    async def _publish_session_retained_messages(self, session: "AmqttSession") -> None:
        """Deliver what waited for a kept session, judged anew."""
        handler = self._get_handler(session)
        while handler is not None and not session.retained_messages.empty():
            waiting = session.retained_messages.get_nowait()
            if self._may(session, waiting.topic, AmqttAction.RECEIVE):
                delivery = handler.mqtt_publish(waiting.topic, waiting.data, waiting.qos, retain=False)
                self._tasks_queue.append(asyncio.ensure_future(delivery))

    async def retain_message(
        self,
        source_session: "AmqttSession",
        topic_name: str,
        data: bytes,
        qos: int | None = None,
    ) -> None:
        """Keep a message for those who subscribe later, but none of who must leave nothing behind."""
        whos = self._table.who_is(source_session.client_id or "", name=source_session.username or "")
        if whos and all(access.may_retain(who) for who in whos):
            await super().retain_message(source_session, topic_name, data, qos)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: "AmqttSession"
    ) -> None:
        """Deliver retained messages for a session's own subscriptions, each one judged."""
        topic_filter, qos = subscription
        subscribed = any(own is session for own, _ in self._subscriptions.get(topic_filter, ()))
        handler = self._get_handler(session)
        for topic, retained in list(self._retained_messages.items()) if subscribed and handler else ():
            if self._matches(topic, topic_filter) and self._may(session, topic, AmqttAction.RECEIVE):
                delivery = handler.mqtt_publish(
                    topic, retained.data, min(qos, retained.qos or 0), retain=True
                )
                self._tasks_queue.append(asyncio.ensure_future(delivery))


BAD_PACKETS: tuple[type[Exception], ...] = (AMQTTError, MQTTError, NoDataError, ProtocolHandlerError)
"""What amqtt raises for packets that it cannot read."""
