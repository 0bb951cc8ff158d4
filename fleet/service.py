"""The composition root: from a fleet home to a running service, every adapter chosen by `fleet.toml`.

It decides nothing about devices. Nothing listens before everything that can fail at a start has been
tried, and whatever fails says so in one sentence.
"""

import asyncio
import json
import os
import secrets
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from aiohttp import web

from fleet import config as configuration
from fleet.broker.embedded import EmbeddedBroker
from fleet.broker.mosquitto import MosquittoBroker, mosquitto_available
from fleet.broker.mosquitto_config import Paths
from fleet.broker.mosquitto_process import MosquittoProcess
from fleet.broker.settings import BrokerFiles, CanaryFiles, Mode
from fleet.broker.settings import Listeners as BrokerListeners
from fleet.ca.auditkey import load_audit_signer
from fleet.ca.hierarchy import Authority, load_authority
from fleet.ca.signers import issuing_passphrase
from fleet.channels.mqtt import BrokerLogin, Consumer
from fleet.channels.translate import REQUEST_TOPICS, answerer
from fleet.config import BrokerDriver, BrokerMode, Config
from fleet.errors import UnreachableError
from fleet.files import write_file
from fleet.home import Home, open_home
from fleet.model import Purpose
from fleet.ports import Clock, Store
from fleet.ra.allowlist import BrokerLink
from fleet.ra.context import Context, Endpoints, Listener
from fleet.ra.crls import CrlBook
from fleet.ra.housekeeping import keep_house
from fleet.ra.limits import RateLimiter
from fleet.ra.nonces import Nonces
from fleet.ra.observe import observe
from fleet.ra.presence import Presence
from fleet.ra.publishing import Press, make_for_brokers, make_public
from fleet.ra.turns import Turns
from fleet.store.certificates import abandon_intents
from fleet.store.seal import AuditSeal
from fleet.store.sqlite import open_store
from fleet.web import api, devices, health, status
from fleet.web.gate import problems
from fleet.web.listening import bind, bind_unix, serving

CLIENT_ID = "fleet-server.requests"
"""Of the server's own persistent session at the broker; `.` stands in no device's name."""
_READY_SECONDS = 20


class Listeners(Enum):
    """What a service opens."""

    ALL = "all"
    ADMIN_ONLY = "admin-only"
    """The socket in the home alone, for one command where no server runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service that runs."""

    context: Context
    admin_socket: Path


Ready = Callable[[Endpoints], None]


def utc_now() -> datetime:
    """Return the time. The one clock of the service."""
    return datetime.now(UTC)


async def serve(root: Path, *, ready: Ready) -> None:
    """Run the service of a home until SIGTERM or SIGINT; `ready` is called when all listeners answer.

    Raises:
        FleetError: it cannot start, with what to do.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        async with running(root) as service:
            ready(service.context.endpoints)
            await ended.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running(
    root: Path, *, listeners: Listeners = Listeners.ALL, clock: Clock = utc_now
) -> AsyncIterator[Service]:
    """Run the service of a home as long as the body does; all listeners answer when it begins.

    Raises:
        FleetError: it cannot start, with what to do.
    """
    home = open_home(root)
    settings = configuration.load(home.config)
    try:
        async with AsyncExitStack() as stack:
            stack.enter_context(home.lock())
            parts = await _open(stack, home, settings, clock)
            opening = _everything if listeners is Listeners.ALL else _admin_only
            context = await stack.enter_async_context(opening(parts))
            yield Service(context=context, admin_socket=home.admin_socket)
    except BaseExceptionGroup as group:
        # Every part runs in a task group; who starts the service waits for one sentence.
        raise only_error(group) from group


def only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error in a group of groups, or the group where there are several."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What every kind of service stands on."""

    home: Home
    config: Config
    store: Store
    authority: Authority
    clock: Clock

    @property
    def press(self) -> Press:
        return Press(store=self.store, authority=self.authority, config=self.config)


async def _open(stack: AsyncExitStack, home: Home, settings: Config, clock: Clock) -> _Parts:
    passphrase = issuing_passphrase(home.issuing_passphrase, environment=os.environ)
    authority = load_authority(home, fleet=settings.fleet, passphrase=passphrase)
    for domain in settings.domains:
        authority.issuer(Purpose.DEVICE, domain.name)
    authority.unlock()  # a wrong passphrase shows now, not with the first device
    sign = load_audit_signer(home.audit_key)
    seal = AuditSeal(log=settings.fleet, sign=sign, clock=clock, head_file=home.audit_head)
    store = await stack.enter_async_context(open_store(home.database, seal=seal))
    return _Parts(home=home, config=settings, store=store, authority=authority, clock=clock)


@asynccontextmanager
async def _admin_only(parts: _Parts) -> AsyncIterator[Context]:
    """Nothing but the socket in the home, and the broker if one was left running."""
    server = parts.config.server
    endpoints = Endpoints(
        host=server.host,
        mqtt_port=server.mqtt_port,
        mqtt_bootstrap_port=server.mqtt_bootstrap_port,
        https_port=server.https_port,
        http_port=server.http_port,
    )
    book = CrlBook()
    await make_public(parts.press, book, now=parts.clock())
    async with AsyncExitStack() as stack:
        broker = await _left_running(stack, parts)
        context = _context(parts, _Surroundings(endpoints=endpoints, book=book, broker=broker))
        await context.broker.synchronise()
        await stack.enter_async_context(_admin(context))
        yield context


async def _left_running(stack: AsyncExitStack, parts: _Parts) -> MosquittoBroker | None:
    """Return the broker that goes on while no server runs: what is revoked now must be cut off there too."""
    if MosquittoProcess(Paths(folder=parts.home.broker)).find() is None:
        return None
    broker = await _broker(parts)
    if not isinstance(broker, MosquittoBroker):
        return None
    await stack.enter_async_context(broker)
    return broker


@asynccontextmanager
async def _everything(parts: _Parts) -> AsyncIterator[Context]:
    """All listeners, the broker, and what keeps both right."""
    server, home = parts.config.server, parts.home
    async with AsyncExitStack() as stack:
        http = stack.enter_context(bind(server.bind, server.http_port, key="http_port"))
        https = stack.enter_context(bind(server.bind, server.https_port, key="https_port"))
        book = CrlBook()
        # Nothing is being signed yet: what stands as an intent now was left by a crash.
        await parts.store.write(abandon_intents, parts.clock())
        await make_public(parts.press, book, now=parts.clock())
        broker = await _broker(parts)
        await stack.enter_async_context(broker)
        if parts.config.broker.stop_with_server:
            stack.push_async_callback(broker.stop)
        endpoints = Endpoints(
            host=server.host,
            mqtt_port=broker.endpoints.operational_port,
            mqtt_bootstrap_port=broker.endpoints.bootstrap_port,
            https_port=https.getsockname()[1],
            http_port=http.getsockname()[1],
        )
        surroundings = _Surroundings(endpoints=endpoints, book=book, broker=broker)
        context = await stack.enter_async_context(_at_work(parts, surroundings, broker))
        await stack.enter_async_context(serving(_status_app(context), http))
        await stack.enter_async_context(serving(_device_app(context), https, tls=_server_tls(parts)))
        await stack.enter_async_context(_admin(context))
        write_file(home.endpoints, _endpoints_json(endpoints))
        stack.callback(home.endpoints.unlink, missing_ok=True)
        yield context


_Broker: TypeAlias = MosquittoBroker | EmbeddedBroker


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surroundings:
    """What is known once the ports are bound and the broker is up."""

    endpoints: Endpoints
    book: CrlBook
    broker: _Broker | None = None


@asynccontextmanager
async def _at_work(parts: _Parts, surroundings: _Surroundings, broker: _Broker) -> AsyncIterator[Context]:
    """Follow the broker and take requests from it; both work when this begins."""
    consumer_ready = asyncio.Event()
    consumer: list[Consumer] = []
    context = _context(parts, surroundings, answering=lambda: all(one.connected for one in consumer))
    login = BrokerLogin(
        host=_reached_at(parts.config),
        port=surroundings.endpoints.mqtt_port,
        client_id=CLIENT_ID,
        tls=_service_tls(parts.home),
        topics=REQUEST_TOPICS,
    )
    consumer.append(Consumer(login, answerer=answerer(context)))
    await context.broker.synchronise()
    async with _background(
        context.broker.run(),
        observe(context, broker),
        keep_house(context),
        consumer[0].run(consumer_ready.set),
    ):
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await consumer_ready.wait()
        except TimeoutError as error:
            raise UnreachableError(
                "the broker runs, but does not let the server subscribe to requests",
                hint="see the broker's log in the home's folder broker/",
            ) from error
        yield context


@asynccontextmanager
async def _background(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run tasks as long as the body; an error of the body comes out as it is."""
    raised: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised = error
        for task in tasks:
            task.cancel()
    if raised is not None:
        raise raised


async def _broker(parts: _Parts) -> _Broker:
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
    if chosen.driver is BrokerDriver.EMBEDDED or lacking is not None:
        return EmbeddedBroker(files, listeners, clock=parts.clock)
    crls = await make_for_brokers(parts.press, now=parts.clock())
    mode = Mode.EXTERNAL if chosen.mode is BrokerMode.EXTERNAL else Mode.MANAGED
    return MosquittoBroker(files, listeners, crls=crls, clock=parts.clock, mode=mode)


def _context(
    parts: _Parts, surroundings: _Surroundings, *, answering: Callable[[], bool] = lambda: False
) -> Context:
    broker, policy = surroundings.broker, parts.config.policy
    return Context(
        fleet=parts.config.fleet,
        config=parts.config,
        store=parts.store,
        authority=parts.authority,
        clock=parts.clock,
        randomness=secrets.token_bytes,
        home=parts.home,
        endpoints=surroundings.endpoints,
        broker=BrokerLink(parts.store, () if broker is None else (broker,)),
        driver=_driver_name(broker),
        answering=answering,
        crls=surroundings.book,
        presence=Presence(),
        nonces=Nonces(secrets.token_bytes(32)),
        turns=Turns(),
        by_address=RateLimiter(per_minute=policy.recover_per_minute),
        by_device=RateLimiter(per_minute=policy.recover_per_minute),
    )


def _driver_name(broker: _Broker | None) -> str:
    if broker is None:
        return "none"
    return "mosquitto" if isinstance(broker, MosquittoBroker) else "embedded"


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
        canaries=(CanaryFiles(certificate=home.canary.certificate, key=home.canary.key),),
    )


def _status_app(context: Context) -> web.Application:
    app = web.Application(middlewares=[problems])
    status.mount(app, context)
    return app


def _device_app(context: Context) -> web.Application:
    app = web.Application(middlewares=[problems])
    devices.mount(app, context, listener=Listener.HTTPS)
    health.mount(app, context)
    return app


@asynccontextmanager
async def _admin(context: Context) -> AsyncIterator[None]:
    """Serve operators, and stations of this home, on the socket that its owner alone can open."""
    app = web.Application(middlewares=[problems])
    devices.mount(app, context, listener=Listener.ADMIN)
    health.mount(app, context)
    api.mount(app, context)
    with bind_unix(context.home.admin_socket) as listener:
        try:
            async with serving(app, listener):
                yield
        finally:
            context.home.admin_socket.unlink(missing_ok=True)


def _server_tls(parts: _Parts) -> ssl.SSLContext:
    """A client certificate is optional in TLS, required by route (INTERFACES.md)."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(parts.home.server.certificate, parts.home.server.key)
    tls.load_verify_locations(cadata="".join(root.pem for root in parts.authority.roots))
    tls.verify_mode = ssl.CERT_OPTIONAL
    return tls


def _service_tls(home: Home) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=str(home.server_trust))
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(home.service.certificate, home.service.key)
    return tls


def _reached_at(settings: Config) -> str:
    """Return where the server itself finds the broker; its certificate holds the loopback names too."""
    is_here = settings.server.bind in {"127.0.0.1", "0.0.0.0", "localhost"}  # noqa: S104 - compared, not bound
    managed = settings.broker.mode is BrokerMode.MANAGED
    return "127.0.0.1" if is_here and managed else settings.server.host


def _endpoints_json(endpoints: Endpoints) -> bytes:
    ports = {
        "mqtt": endpoints.mqtt_port,
        "mqtt_bootstrap": endpoints.mqtt_bootstrap_port,
        "https": endpoints.https_port,
        "http": endpoints.http_port,
    }
    found = {name: {"host": endpoints.host, "port": port} for name, port in ports.items()}
    return json.dumps(found, indent=2).encode() + b"\n"
