"""A broker with two devices and a claim, and clients that try things: for tests of every driver."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from fleet.broker.embedded import EmbeddedBroker
from fleet.broker.guard.build import LIBRARY, build
from fleet.broker.mosquitto import MosquittoBroker
from fleet.broker.settings import Listeners
from fleet.model import AllowlistEntry, BrokerEvent, Purpose
from tests.broker_home import ANY_PORT, BrokerHome
from tests.mqtt import MqttClient, NotLetInError
from tests.pki import Pair, entry_of

Driver = MosquittoBroker | EmbeddedBroker
KEY_HASH = "ab" * 32
OTHER_KEY_HASH = "cd" * 32


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True)
class World:
    broker: Driver
    home: BrokerHome
    device: Pair
    neighbour: Pair
    claim: Pair
    clients: list[MqttClient] = field(default_factory=list)

    @classmethod
    async def of(cls, broker: Driver, home: BrokerHome) -> Self:
        """Return the world around a broker that has just started; its list is in force."""
        pki = home.pki
        world = cls(
            broker=broker, home=home, device=pki.device("d1"), neighbour=pki.device("d2"), claim=pki.claim()
        )
        await broker.replace(home.allowlist(*world.entries))
        return world

    @property
    def entry(self) -> AllowlistEntry:
        return entry_of(self.device, "prod:d1")

    @property
    def entries(self) -> tuple[AllowlistEntry, ...]:
        return (
            self.entry,
            entry_of(self.neighbour, "prod:d2"),
            entry_of(self.claim, "batch-1", purpose=Purpose.CLAIM),
        )

    async def open(self, pair: Pair | None, *, bootstrap: bool = False) -> MqttClient:
        endpoints = self.broker.endpoints
        port = endpoints.bootstrap_port if bootstrap else endpoints.operational_port
        client = await self.home.open(pair, port=port)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    async def let_in(
        self, pair: Pair, client_id: str, *, bootstrap: bool = False, clean: bool = True
    ) -> MqttClient:
        client = await self.open(pair, bootstrap=bootstrap)
        assert await client.connect(client_id, clean=clean) == 0
        return client

    async def is_refused(self, pair: Pair | None, client_id: str, *, bootstrap: bool = False) -> bool:
        """Say whether TLS or the broker turns a client away."""
        try:
            client = await self.open(pair, bootstrap=bootstrap)
            code = await client.connect(client_id)
        except NotLetInError:
            return True
        return code != 0

    async def server(self) -> MqttClient:
        return await self.let_in(self.home.service, "fleet-server.requests")

    async def next_event(self, events: AsyncIterator[BrokerEvent], *, of: str) -> BrokerEvent:
        async with asyncio.timeout(10):
            async for event in events:
                if event.client_id == of:
                    return event
        raise AssertionError("the events ended")


def put_guard(into: Path, *, from_folder: Path) -> None:
    """Put the guard into a folder; it is compiled once in another one."""
    build(from_folder)
    for name in (LIBRARY, f"{LIBRARY}.of"):
        shutil.copy(from_folder / name, into / name)


def mosquitto_of(home: BrokerHome, *, listeners: Listeners = ANY_PORT) -> MosquittoBroker:
    """Return a driver, not yet started."""
    return MosquittoBroker(home.files, listeners, crls=home.crls(), clock=now)


@asynccontextmanager
async def embedded(home: BrokerHome) -> AsyncIterator[EmbeddedBroker]:
    async with EmbeddedBroker(home.files, ANY_PORT, clock=now, crls=home.crls()) as broker:
        yield broker


@asynccontextmanager
async def mosquitto(home: BrokerHome) -> AsyncIterator[MosquittoBroker]:
    """A Mosquitto that ends with the test."""
    broker = mosquitto_of(home)
    try:
        async with broker:
            yield broker
    finally:
        await broker.stop()
