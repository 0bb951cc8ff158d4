"""The application's messages on the device's own topics, over whatever connection is open.

A publish waits through reconnects and certificate changes, and returns when a broker has the message: at
least once. Subscriptions are made again on each connection, into a session that lasts between them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from device_agent.errors import ChannelError, UsageError
from device_agent.ports import Link
from device_agent.wire.topics import OperationalTopics

_log = logging.getLogger(__name__)

_MOST_WAITING = 1000
_DRAIN = timedelta(seconds=5)
_PAUSE = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message on one of the device's own topics; `topic` is what stands below `devices/<domain>/<id>/`."""

    topic: str
    payload: bytes


def matches(topic: str, topic_filter: str) -> bool:
    """Tell whether a filter covers a topic (MQTT 3.1.1 4.7)."""
    levels, wanted = topic.split("/"), topic_filter.split("/")
    for depth, want in enumerate(wanted):
        if want == "#":
            return True
        if depth >= len(levels) or want not in ("+", levels[depth]):
            return False
    return len(levels) == len(wanted)


class Traffic:
    """What the application sends and receives."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._base = ""
        self._open = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._publishing = 0
        self._readers: dict[asyncio.Queue[Message], str] = {}

    async def attach(self, link: Link, topics: OperationalTopics) -> None:
        """Use this connection; raises `ChannelError` where a subscription fails."""
        self._base = topics.own + "/"
        for topic_filter in set(self._readers.values()):
            await link.subscribe(self._base + topic_filter)
        self._link = link
        self._open.set()

    async def detach(self) -> None:
        """Leave the connection, once what is being published has been acknowledged, or 5 s have passed."""
        self.drop()
        try:
            async with asyncio.timeout(_DRAIN.total_seconds()):
                await self._idle.wait()
        except TimeoutError:
            _log.info("a message is sent again on the next connection: its acknowledgement did not come")

    def drop(self) -> None:
        """Leave a connection that has ended."""
        self._link = None
        self._open.clear()

    async def ready(self) -> None:
        """Wait until a connection is open."""
        await self._open.wait()

    async def publish(self, topic: str, payload: bytes) -> None:
        """Return once a broker has the message on `devices/<domain>/<id>/<topic>`, however long that takes.

        Raises:
            UsageError: the topic is none that can be published to.
        """
        if not topic or set(topic) & {"+", "#", "\0"}:
            raise UsageError("a topic to publish to has no wildcard and is not empty")
        while True:
            await self._open.wait()
            if await self._try(topic, payload):
                return
            # The end of a connection is heard a little later than a publish fails on it.
            await asyncio.sleep(_PAUSE.total_seconds())

    @asynccontextmanager
    async def messages(self, topic_filter: str) -> AsyncIterator[AsyncIterator[Message]]:
        """Subscribe below `devices/<domain>/<id>/`; the messages come from the iterator that this gives."""
        queue: asyncio.Queue[Message] = asyncio.Queue(_MOST_WAITING)
        self._readers[queue] = topic_filter
        try:
            if self._link is not None:
                await self._link.subscribe(self._base + topic_filter)
            yield _each(queue)
        finally:
            del self._readers[queue]

    def take(self, topic: str, payload: bytes) -> bool:
        """Hand a message to whoever subscribed; tell whether it is on an own topic."""
        if not self._base or not topic.startswith(self._base):
            return False
        below = topic.removeprefix(self._base)
        for queue, topic_filter in self._readers.items():
            if not matches(below, topic_filter):
                continue
            if queue.full():
                _log.warning("dropped a message on %s: %d wait to be read", topic, _MOST_WAITING)
            else:
                queue.put_nowait(Message(topic=below, payload=payload))
        return True

    async def _try(self, topic: str, payload: bytes) -> bool:
        link = self._link
        if link is None:
            return False
        self._publishing += 1
        self._idle.clear()
        try:
            await link.publish(self._base + topic, payload)
        except ChannelError as error:
            _log.info("%s; it is sent again", error)
            return False
        finally:
            self._publishing -= 1
            if not self._publishing:
                self._idle.set()
        return True


async def _each(queue: asyncio.Queue[Message]) -> AsyncIterator[Message]:
    while True:
        yield await queue.get()
