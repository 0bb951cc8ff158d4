"""Watches the broker as a backend would: counts what devices send, pings them, and misses nothing.

It is a client of its own beside the server, with the service certificate of the home.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiomqtt

from fleet.errors import FleetError
from fleet.home import Home

_CLIENT_ID = "fleet-server.demo"
_ALL = "devices/+/+/#"


@dataclass(slots=True)
class Heard:
    """What one device sent."""

    readings: set[int] = field(default_factory=set)
    repeated: int = 0
    pongs: dict[str, int] = field(default_factory=dict)
    """Ping to the number of readings that the device had sent when it answered."""


class Witness:
    """All that was published below `devices/`, by device name."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._news = asyncio.Condition()
        self._heard: dict[str, Heard] = {}
        self.topics: set[str] = set()

    def of(self, name: str) -> Heard:
        """Return what was heard of a device."""
        return self._heard.setdefault(name, Heard())

    async def ping(self, name: str, text: str) -> None:
        """Send a ping to a device, which may be away just now."""
        await self._client.publish(f"devices/{name.replace(':', '/', 1)}/ping", text, qos=1)

    async def until_pong(self, name: str, text: str) -> int:
        """Wait for the answer to a ping; return how many readings the device had sent by then."""
        async with self._news:
            await self._news.wait_for(lambda: text in self.of(name).pongs)
        return self.of(name).pongs[text]

    async def until_readings(self, name: str, count: int) -> None:
        """Wait until all readings up to a number were heard."""
        wanted = set(range(1, count + 1))
        async with self._news:
            await self._news.wait_for(lambda: wanted <= self.of(name).readings)

    async def until_topic(self, topic: str) -> None:
        """Wait until something was published there."""
        async with self._news:
            await self._news.wait_for(lambda: topic in self.topics)

    async def watch(self) -> None:
        """Take all messages in, until cancelled."""
        async for message in self._client.messages:
            async with self._news:
                self._take(str(message.topic), message.payload)
                self._news.notify_all()

    def _take(self, topic: str, payload: bytes) -> None:
        self.topics.add(topic)
        _, domain, device_id, *rest = topic.split("/")
        heard = self.of(f"{domain}:{device_id}")
        match rest:
            case ["reading"]:
                number = int(json.loads(payload)["n"])
                heard.repeated += number in heard.readings
                heard.readings.add(number)
            case ["pong"]:
                answer = json.loads(payload)
                heard.pongs[str(answer["ping"])] = int(answer["readings"])


@asynccontextmanager
async def watching(home: Home, port: int) -> AsyncIterator[Witness]:
    """Watch the broker of a home as long as the body; raises `FleetError` when the broker lets go."""
    context = ssl.create_default_context(cafile=str(home.server_trust))
    context.load_cert_chain(home.service.certificate, home.service.key)
    client = aiomqtt.Client("localhost", port, identifier=_CLIENT_ID, tls_context=context, clean_session=True)
    try:
        async with client, asyncio.TaskGroup() as group:
            await client.subscribe(_ALL, qos=1)
            witness = Witness(client)
            watching_on = group.create_task(witness.watch())
            yield witness
            watching_on.cancel()
    except (aiomqtt.MqttError, ExceptionGroup) as error:
        raise FleetError("the broker let go of the client that watched it") from error
