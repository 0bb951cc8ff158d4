"""The composition root: from a fleet home to a running service, every adapter chosen by `fleet.toml`.

It decides nothing about devices. Nothing listens before everything that can fail at a start has been
tried, and whatever fails says so in one sentence.
"""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from fleet import config as configuration
from fleet.channels import aws
from fleet.channels.mqtt import BrokerLogin, Consumer
from fleet.channels.translate import REQUEST_TOPICS, answerer
from fleet.errors import UnreachableError
from fleet.files import write_file
from fleet.home import open_home
from fleet.live_tls import OwnClient
from fleet.ports import Clock
from fleet.ra.campaigns.conduct import conduct
from fleet.ra.context import Context, Endpoints
from fleet.ra.crls import CrlBook
from fleet.ra.health import examine
from fleet.ra.history import keep_history
from fleet.ra.issue_own import Surroundings as Issuing
from fleet.ra.keeping.housekeeping import keep_evidence, keep_house
from fleet.ra.own.own_at_start import make_good
from fleet.ra.requests.decisions import keep_decisions
from fleet.ra.requests.observe import observe
from fleet.ra.status.public_lists import make_public
from fleet.ra.status.publishing import keep_published, try_to_give
from fleet.ra.status.relying import follow_logs
from fleet.ra.telling.telling import keep_telling
from fleet.service.brokers import Broker, broker_of, left_running, reached_at, service_tls
from fleet.service.contexts import Surroundings, context_of
from fleet.service.parts import Parts, open_parts
from fleet.service.sites import (
    LOOPBACK,
    admin_site,
    device_app,
    endpoints_json,
    metrics_app,
    server_door,
    status_app,
)
from fleet.service.way import Way
from fleet.store.certificates import abandon_intents
from fleet.store.devices import hold_what_is_off
from fleet.store.status_urls import StatusUrl, note_status_url
from fleet.tls_refusals import noting, watch
from fleet.web.listening import bind, serving
from fleet.web.visitors import refused_by_tls

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
            loop.add_signal_handler(signal.SIGHUP, service.context.tls_users.wanted.set)
            ready(service.context.endpoints)
            await ended.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
            parts = await open_parts(stack, home, settings, clock)
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


@asynccontextmanager
async def _admin_only(parts: Parts) -> AsyncIterator[Context]:
    """Nothing but the socket in the home, and the broker if one was left running."""
    server = parts.config.server
    endpoints = Endpoints(
        host=server.host,
        mqtt_port=server.mqtt_port,
        mqtt_bootstrap_port=server.mqtt_bootstrap_port,
        https_port=server.https_port,
        http_port=server.http_port,
        status_place=server.status_url,
    )
    book = CrlBook()
    await make_public(parts.press, book, now=parts.clock())
    async with AsyncExitStack() as stack:
        if (broker := await left_running(stack, parts)) is not None:
            book.brokers_until = parts.clock() + parts.config.policy.crl_lifetime  # it was given lists
        context = context_of(parts, Surroundings(endpoints=endpoints, book=book, broker=broker))
        if broker is not None:
            context.tls_users.add(broker)
        await context.broker.synchronise()
        await stack.enter_async_context(admin_site(context))
        yield context


@asynccontextmanager
async def _everything(parts: Parts) -> AsyncIterator[Context]:
    """All listeners, the broker, and what keeps both right."""
    server, home = parts.config.server, parts.home
    async with AsyncExitStack() as stack:
        http = stack.enter_context(bind(server.bind, server.http_port, key="http_port"))
        https = stack.enter_context(bind(server.bind, server.https_port, key="https_port"))
        metrics = None
        if server.metrics_port is not None:
            metrics = stack.enter_context(bind(LOOPBACK, server.metrics_port, key="metrics_port"))
        # Nothing is being signed yet: what stands as an intent now was left by a crash.
        await parts.store.write(abandon_intents, parts.clock())
        await _own_certificates(parts, http_port=http.getsockname()[1])
        book = await _lists(parts, http_port=http.getsockname()[1])
        broker = await broker_of(parts)
        await stack.enter_async_context(broker)
        if parts.config.broker.stop_with_server:
            stack.push_async_callback(broker.stop)
        endpoints = Endpoints(
            host=server.host,
            mqtt_port=broker.endpoints.operational_port,
            mqtt_bootstrap_port=broker.endpoints.bootstrap_port,
            https_port=https.getsockname()[1],
            http_port=http.getsockname()[1],
            metrics_port=0 if metrics is None else metrics.getsockname()[1],
            status_place=server.status_url,
        )
        surroundings = Surroundings(endpoints=endpoints, book=book, broker=broker)
        context = await stack.enter_async_context(_at_work(parts, surroundings, broker))
        await stack.enter_async_context(serving(status_app(context), http))
        door = server_door(parts)
        context.tls_users.add(door)
        watch(door.context, refused_by_tls(context))
        await stack.enter_async_context(serving(device_app(context), noting(https), tls=door.context))
        if metrics is not None:
            await stack.enter_async_context(serving(metrics_app(context), metrics))
        await stack.enter_async_context(admin_site(context))
        write_file(home.endpoints, endpoints_json(endpoints))
        stack.callback(home.endpoints.unlink, missing_ok=True)
        yield context


async def _own_certificates(parts: Parts, *, http_port: int) -> None:
    """Make sure that the server can speak to its own broker, and be spoken to."""
    server = parts.config.server
    issuing = Issuing(
        store=parts.store,
        authority=parts.authority,
        randomness=secrets.token_bytes,
        status_url=server.status_place(http_port),
    )
    await make_good(issuing, parts.home, server, now=parts.clock())


async def _lists(parts: Parts, *, http_port: int) -> CrlBook:
    """Make the public lists, under the address that leaves name from now on."""
    book, now = CrlBook(), parts.clock()
    press = replace(parts.press, status_url=parts.config.server.status_place(http_port))
    await parts.store.write(note_status_url, StatusUrl(url=press.status_url, at=now))
    await parts.store.write(hold_what_is_off, now)
    await make_public(press, book, now=now)
    return book


@asynccontextmanager
async def _at_work(parts: Parts, surroundings: Surroundings, broker: Broker) -> AsyncIterator[Context]:
    """Follow the broker and take requests from it; both work when this begins."""
    consumer_ready, way = asyncio.Event(), Way()
    context = context_of(parts, surroundings, way=way)
    tls = service_tls(parts.home, host=parts.config.server.host)
    login = BrokerLogin(
        host=reached_at(parts.config),
        port=surroundings.endpoints.mqtt_port,
        client_id=CLIENT_ID,
        tls=tls.context,
        topics=REQUEST_TOPICS + aws.REQUEST_TOPICS,
    )
    consumer = Consumer(login, answerer=aws.beside(answerer(context), aws.answerer(context)))
    way.consumer = consumer
    for user in (broker, _OwnRequests(tls, consumer)):
        context.tls_users.add(user)
    await context.broker.synchronise()
    await try_to_give(context)
    async with background(
        context.broker.run(),
        observe(context, broker),
        keep_decisions(context, broker),
        keep_house(context),
        keep_evidence(context),
        conduct(context),
        keep_published(context),
        follow_logs(context),
        keep_history(
            context.store,
            context.history,
            clock=context.clock,
            retention=lambda: context.config.retention,
        ),
        keep_telling(context, examine=examine),
        consumer.run(consumer_ready.set),
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


@dataclass(frozen=True, slots=True)
class _OwnRequests:
    """The client by which requests come in, as one that shows a certificate."""

    tls: OwnClient
    consumer: Consumer

    async def reload_tls(self) -> None:
        """Connect anew, if there is another certificate to show: the session at the broker loses nothing."""
        if self.tls.reload():
            self.consumer.come_again()


@asynccontextmanager
async def background(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
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
