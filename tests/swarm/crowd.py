"""A swarm: thousands of devices in one process, by name: enrolled, connected, troubled and waited for.

Each is the real agent with keys, a record and a connection of its own. What is not as on a device: the disk
is memory, and MQTT is spoken by a client that costs no thread.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from device_agent.agent import ClaimFiles, MqttEnrollment
from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.ra.people.claims import CodeOrder, create_codes
from tests.live import LiveFleet
from tests.swarm.agent import SimulatedAgent
from tests.swarm.ahead import Ahead
from tests.swarm.ways import Mode, Opening, OverMqtt

AT_ONCE = 64
"""So many connect, or enroll, at the same time: what a listen queue holds."""
_FIRST_WAIT = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a swarm enrolls, and how it opens that door."""

    bootstrap_port: int
    trust_pem: str
    claim: ClaimFiles
    host: str = "localhost"
    domain: str = "prod"


class Swarm:
    """Made by `swarm_at` or `a_swarm`."""

    def __init__(
        self, place: Place, group: asyncio.TaskGroup, *, first_wait: timedelta = _FIRST_WAIT
    ) -> None:
        self._place, self._group, self._first_wait = place, group, first_wait
        self._agents: dict[str, SimulatedAgent] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed: set[str] = set()
        self._bell = asyncio.Event()

    def __getitem__(self, name: str) -> SimulatedAgent:
        return self._agents[name]

    def __iter__(self) -> Iterator[SimulatedAgent]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)

    async def enroll(self, codes: Mapping[str, Secret], *, opening: Opening | None = None) -> None:
        """Make a device for each code and have it enroll, confirmed; over MQTT, unless told otherwise."""
        over_mqtt = OverMqtt()

        async def enroll(name: str) -> None:
            agent = SimulatedAgent(
                name,
                opening or over_mqtt,
                changed=self._note,
                first_wait=self._first_wait,
                domain=self._place.domain,
            )
            await agent.enroll_mqtt(self._enrollment(name, codes[name]))
            agent.swarm_ways.opening = over_mqtt
            self._agents[name] = agent

        await _each(codes, enroll)

    async def connect(self, *names: str) -> None:
        """Have devices run, all of them where none is named; they are on line when this returns."""

        async def connect(name: str) -> None:
            if name not in self._tasks:
                self._tasks[name] = self._group.create_task(self._agents[name].run())
            await self._agents[name].ready()

        await _each(names or tuple(self._agents), connect)

    async def disconnect(self, *names: str) -> None:
        """Switch devices off, all of them where none is named."""
        ending = [self._tasks.pop(name) for name in names or tuple(self._agents) if name in self._tasks]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def fail(self, names: Iterable[str], mode: Mode) -> None:
        """Have devices behave so from now on."""
        for name in names:
            self._agents[name].fail(mode)

    def come_back(self, *names: str) -> None:
        """Have devices be there again, and well."""
        for name in names:
            self._agents[name].come_back()

    async def until(self, is_so: Callable[[SimulatedAgent], bool], *names: str) -> None:
        """Wait until it is so of each of them at its last change, of all where none is named."""
        waiting = {name for name in names or self._agents if not is_so(self._agents[name])}
        self._changed.clear()
        while waiting:
            await self._bell.wait()
            self._bell.clear()
            changed, self._changed = self._changed & waiting, set()
            waiting -= {name for name in changed if is_so(self._agents[name])}

    def _note(self, name: str) -> None:
        self._changed.add(name)
        self._bell.set()

    def _enrollment(self, name: str, code: Secret) -> MqttEnrollment:
        place = self._place
        return MqttEnrollment(
            host=place.host,
            port=place.bootstrap_port,
            device_id=name,
            trust_pem=place.trust_pem,
            claim=place.claim,
            code=code,
        )


@asynccontextmanager
async def swarm_at(place: Place, *, first_wait: timedelta = _FIRST_WAIT) -> AsyncIterator[Swarm]:
    """Give a swarm of nobody yet; its devices are switched off at the end."""
    async with asyncio.TaskGroup() as group:
        swarm = Swarm(place, group, first_wait=first_wait)
        try:
            yield swarm
        finally:
            await swarm.disconnect()


@asynccontextmanager
async def a_swarm(fleet: LiveFleet, *names: str, domain: str = "prod") -> AsyncIterator[Swarm]:
    """Give a swarm with these devices, enrolled ahead at a server in this process, and not connected."""
    identities = tuple(Identity(domain=domain, device_id=name) for name in names)
    order = CodeOrder(identities=identities, actor="operator:test", lifetime=timedelta(days=1))
    made = await create_codes(fleet.context, order)
    async with swarm_at(place_of(fleet, domain=domain)) as swarm:
        codes = {one.identity.device_id: one.code for one in made}
        await swarm.enroll(codes, opening=Ahead(fleet.context))
        yield swarm


def place_of(fleet: LiveFleet, *, domain: str = "prod") -> Place:
    """Return where devices of a running fleet enroll."""
    claim = fleet.home.home.public_claim(domain)
    return Place(
        bootstrap_port=fleet.context.endpoints.mqtt_bootstrap_port,
        trust_pem=fleet.home.home.server_trust.read_text(),
        claim=ClaimFiles(certificate=claim.certificate, key=claim.key),
        domain=domain,
    )


async def _each(names: Iterable[str], do: Callable[[str], Awaitable[None]]) -> None:
    """Do it for each, so many at once."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with room:
            await do(name)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(one(name))
