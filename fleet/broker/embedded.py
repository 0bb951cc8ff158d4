"""The driver of the embedded broker: amqtt in our own process, with the same rules, and nothing to install.

For demonstrations and small fleets: it ends with the process, and keeps sessions and messages in memory only.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from fleet.broker.doubt import Doubt
from fleet.broker.embedded_engine import Engine
from fleet.broker.embedded_gate import Gate, bootstrap_context, operational_context
from fleet.broker.embedded_table import BROKER, Connection, Table
from fleet.broker.second_layer import read_issuers, revoked_keys, verified
from fleet.broker.service_entry import own_entry
from fleet.broker.settings import BrokerEndpoints, BrokerFiles, Listeners
from fleet.errors import UnreachableError
from fleet.grants import DEFAULT_CLASSES, Classes, TopicDecision
from fleet.live_tls import Door
from fleet.model import Allowlist, AllowlistChange, BrokerEvent, CutOff, Session
from fleet.ports import Clock

_TICK_SECONDS = 0.5
_CLEAR_SECONDS = 10.0


class EmbeddedBroker:
    """`BrokerEnforcer` over amqtt. `async with` starts it; leaving ends it."""

    def __init__(
        self,
        files: BrokerFiles,
        listeners: Listeners,
        *,
        clock: Clock,
        crls: Sequence[bytes] = (),
        classes: Classes = DEFAULT_CLASSES,
    ) -> None:
        """Take the CRLs (DER), if there are any yet, and what certificates may do for now."""
        self._files = files
        self._listeners = listeners
        self._clock = clock
        self._crls = tuple(crls)
        self._table = Table(own_entry(files.service_certificate), clock=clock, classes=classes)
        self._doubt = Doubt()
        self._started_at = clock()
        self._endpoints: BrokerEndpoints | None = None
        self._doors: list[Door] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open both listeners.

        Raises:
            FleetError: a file is not right, or a port is taken.
        """
        if self._crls:
            await self.publish_crls(self._crls)
        async with contextlib.AsyncExitStack() as stack:
            engine = Engine(self._table)
            await engine.start()
            stack.push_async_callback(engine.shutdown)
            gate = Gate(self._table, engine)
            stack.push_async_callback(gate.close)
            self._endpoints = await self._open(gate)
            self._doubt.arise("the broker started")
            group = await stack.enter_async_context(asyncio.TaskGroup())
            stack.callback(group.create_task(self._tick()).cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        await self._stack.__aexit__(kind, error, trace)
        self._endpoints = None

    @property
    def endpoints(self) -> BrokerEndpoints:
        """Where the broker answers, once it is up."""
        if self._endpoints is None:
            raise UnreachableError("the broker is not up")
        return self._endpoints

    async def stop(self) -> None:
        """Nothing outlives the `async with`."""

    async def replace(self, allowlist: Allowlist) -> None:
        """Make the whole set the broker's; sessions of all others are dropped."""
        doubt = self._doubt.number
        await self._gone(self._table.replace(allowlist))
        self._doubt.settle(doubt)

    async def change(self, change: AllowlistChange) -> Sequence[CutOff]:
        """Apply the next change, drop the sessions of what it removes."""
        started = time.perf_counter()
        return await self._cut_offs(self._table.change(change), started)

    async def govern(self, classes: Classes) -> None:
        """Put what certificates may do in force, for those that are connected too."""
        self._table.govern(classes)

    async def decisions(self) -> AsyncIterator[TopicDecision]:
        """Yield a sample of what was allowed and denied, from now on."""
        while True:
            yield await self._table.decisions.get()

    async def kick(self, name: str) -> Sequence[CutOff]:
        """Drop the live sessions of a broker name; they may come back."""
        started = time.perf_counter()
        named = self._table.named(name)
        for connection in named:
            connection.end("kicked")
        return await self._cut_offs(named, started)

    async def sessions(self) -> Sequence[Session]:
        """Return the live sessions."""
        return self._table.sessions()

    async def events(self) -> AsyncIterator[BrokerEvent]:
        """Yield connections, refusals and ends, in order."""
        while True:
            yield await self._table.events.get()

    async def doubtful(self) -> str:
        """Return, with the reason, as long as there was no whole list."""
        return await self._doubt.reason()

    async def stamp(self) -> int:
        """Return the highest stamp handed out so far."""
        return self._table.stamp

    def age(self) -> timedelta:
        """Return how long there has been no whole list; its memory is ours, so none is doubted later."""
        return timedelta() if self._table.listed else self._clock() - self._started_at

    async def publish_crls(self, crls: Sequence[bytes]) -> None:
        """Refuse what the CRLs name, whatever the allowlist says.

        Raises:
            BadInputError: a CRL is not right; the earlier ones stay in force.
        """
        issuers = (
            *read_issuers(self._files.operational_issuers),
            *read_issuers(self._files.bootstrap_issuers),
        )
        by_issuer = verified(crls, issuers, now=self._clock())
        await self._gone(self._table.revoke(revoked_keys(by_issuer, issuers)))

    async def reload_tls(self) -> None:
        """Show the certificate and trust the roots that stand in the files now; raises `FleetError`."""
        for door in self._doors:
            door.reload()

    async def _open(self, gate: Gate) -> BrokerEndpoints:
        wanted, files = self._listeners, self._files
        self._doors = [
            Door(lambda: operational_context(files)),
            Door(lambda: bootstrap_context(files)),
        ]
        operational, bootstrap = [door.context for door in self._doors]
        return BrokerEndpoints(
            host=wanted.host,
            operational_port=await gate.listen(operational, bind=wanted.bind, port=wanted.operational_port),
            bootstrap_port=await gate.listen(bootstrap, bind=wanted.bind, port=wanted.bootstrap_port),
        )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._table.end_expired()

    async def _gone(self, connections: Sequence[Connection]) -> None:
        try:
            async with asyncio.timeout(_CLEAR_SECONDS):
                for connection in connections:
                    await connection.gone.wait()
        except TimeoutError as error:
            raise UnreachableError("the broker does not clear its ended sessions away") from error

    async def _cut_offs(self, connections: Sequence[Connection], started: float) -> tuple[CutOff, ...]:
        """Wait until each one is gone, and measure."""
        found: list[CutOff] = []
        for connection in connections:
            await self._gone([connection])
            took_ms = (time.perf_counter() - started) * 1000
            who = connection.who
            found.append(CutOff(broker=BROKER, name=who.name, serial=who.serial, cut_off_ms=took_ms))
        return tuple(found)
