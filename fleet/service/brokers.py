"""Chooses the broker's driver, as the configuration says and this machine allows, and finds the way to it."""

import asyncio
from contextlib import AsyncExitStack
from typing import TypeAlias

from fleet.broker.embedded import EmbeddedBroker
from fleet.broker.mosquitto import MosquittoBroker, mosquitto_available
from fleet.broker.mosquitto_config import Paths
from fleet.broker.mosquitto_process import MosquittoProcess
from fleet.broker.settings import AdoptedFiles, BrokerFiles, CanaryFiles, Mode
from fleet.broker.settings import Listeners as BrokerListeners
from fleet.config import BrokerDriver, BrokerMode, Config
from fleet.errors import UnreachableError
from fleet.home import Home
from fleet.live_tls import OwnClient
from fleet.ra.access_rules import classes_in_force
from fleet.ra.status.broker_lists import make_for_brokers
from fleet.service.parts import Parts

Broker: TypeAlias = MosquittoBroker | EmbeddedBroker


async def broker_of(parts: Parts) -> Broker:
    """Choose the driver, as the configuration says and this machine allows."""
    chosen = parts.config.broker
    lacking = None
    if chosen.driver is not BrokerDriver.EMBEDDED:
        lacking = await asyncio.to_thread(mosquitto_available)
    if chosen.driver is BrokerDriver.MOSQUITTO and lacking is not None:
        raise UnreachableError(
            f"Mosquitto with the guard cannot run: {lacking}", hint='or set driver = "embedded" in fleet.toml'
        )
    files = _broker_files(parts.home)
    server = parts.config.server
    listeners = BrokerListeners(
        bind=server.bind,
        host=server.host,
        operational_port=server.mqtt_port,
        bootstrap_port=server.mqtt_bootstrap_port,
    )
    classes = await parts.store.read(classes_in_force, None)
    if chosen.driver is BrokerDriver.EMBEDDED or lacking is not None:
        return EmbeddedBroker(files, listeners, clock=parts.clock, classes=classes)
    crls = await make_for_brokers(parts.press, now=parts.clock())
    mode = Mode.EXTERNAL if chosen.mode is BrokerMode.EXTERNAL else Mode.MANAGED
    return MosquittoBroker(files, listeners, crls=crls, clock=parts.clock, mode=mode, classes=classes)


async def left_running(stack: AsyncExitStack, parts: Parts) -> MosquittoBroker | None:
    """Return the broker that goes on while no server runs: what is revoked now must be cut off there too."""
    if MosquittoProcess(Paths(folder=parts.home.broker)).find() is None:
        return None
    broker = await broker_of(parts)
    if not isinstance(broker, MosquittoBroker):
        return None
    await stack.enter_async_context(broker)
    return broker


def _broker_files(home: Home) -> BrokerFiles:
    return BrokerFiles(
        folder=home.broker,
        certificate=home.server.certificate,
        key=home.server.key,
        operational_roots=home.broker_operational_roots,
        bootstrap_roots=home.broker_bootstrap_roots,
        operational_issuers=home.broker_operational_issuers,
        bootstrap_issuers=home.broker_bootstrap_issuers,
        server_trust=home.server_trust,
        service_certificate=home.service.certificate,
        service_key=home.service.key,
        adopted=AdoptedFiles(authorities=home.adopted_authorities, crls=home.adopted_crls),
        canaries=(CanaryFiles(certificate=home.canary.certificate, key=home.canary.key),),
    )


def service_tls(home: Home, *, host: str) -> OwnClient:
    """Return the TLS of our own client, which minds the server's name and not the address that it calls."""
    return OwnClient(host=host, trust=home.server_trust, files=home.service)


def reached_at(settings: Config) -> str:
    """Return where the server itself finds the broker; its certificate holds the loopback names too."""
    is_here = settings.server.bind in {"127.0.0.1", "0.0.0.0", "localhost"}  # noqa: S104 - compared, not bound
    managed = settings.broker.mode is BrokerMode.MANAGED
    return "127.0.0.1" if is_here and managed else settings.server.host
