"""One simulated device: the agent as it is, on a disk of memory."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count

from device_agent.agent import Agent
from device_agent.chronicle import Chronicle
from device_agent.clock import GivenClock
from device_agent.config import Settings
from device_agent.errors import AgentError
from device_agent.hooks import Hooks
from device_agent.life import Life
from tests.swarm.disk import NOWHERE, MemoryDiary, MemoryKeys, MemoryMeter, MemoryRecords
from tests.swarm.ways import Mode, Opening, SwarmWays


class SimulatedAgent(Agent):
    """A device. `changed` is told of each connection and each certificate that it takes into use."""

    def __init__(
        self,
        device_id: str,
        opening: Opening,
        *,
        changed: Callable[[str], None],
        first_wait: timedelta,
        domain: str,
    ) -> None:
        self.device_id, self._changed = device_id, partial(changed, device_id)
        clock, numbers = GivenClock(), count(1)
        self._memory_keys = MemoryKeys()
        life = Life(
            MemoryRecords(self._changed),
            self._memory_keys,
            clock=clock,
            new_key_name=lambda: f"k-{next(numbers)}",
            domain=domain,
        )
        self.swarm_ways = SwarmWays(opening)
        settings = Settings(state=NOWHERE, first_wait=first_wait)
        chronicle = Chronicle(
            MemoryMeter(clock(), told=self._changed), MemoryDiary(), record=life.record, moment=clock.moment
        )
        hooks = Hooks(NOWHERE, settings.hook_folder, wrote=lambda _length: None)
        super().__init__(life, settings, ways=self.swarm_ways, hooks=hooks, clock=clock, chronicle=chronicle)
        self.ended: AgentError | None = None
        """Why it gave up, where it did."""

    async def run(self) -> None:
        """Stay connected and renew in time, until cancelled: without the sockets that an agent lends."""
        try:
            await self._driver.run()
        except AgentError as error:
            self.ended = error
            self._changed()

    @property
    def serial(self) -> str:
        """The certificate in use; empty before the first."""
        active = self.record.life.active
        return "" if active is None else active.serial

    @property
    def renewals(self) -> int:
        """Certificates that took the place of another since this device was made."""
        return self._chronicle.meter.tally.renewals

    @property
    def connections(self) -> int:
        """Connections to the operational listener so far."""
        return self._chronicle.meter.tally.connections

    @property
    def is_online(self) -> bool:
        """Whether it is connected."""
        return self._signals.is_connected

    @property
    def problem(self) -> str | None:
        """What is wrong, in the agent's own word."""
        return self._signals.word

    @property
    def mode(self) -> Mode:
        """How it behaves."""
        return self.swarm_ways.mode

    def fail(self, mode: Mode) -> None:
        """Behave so from now on."""
        self.swarm_ways.fail(mode, serial=self.serial)
        self._memory_keys.is_full = mode is Mode.KEYLESS

    def come_back(self) -> None:
        """Be there again, and well: at once, as a device that was switched on."""
        self.swarm_ways.come_back()
        self._memory_keys.is_full = False
        self._signals.ring()
