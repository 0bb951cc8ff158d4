"""What the connection's user and the driver tell each other, within one event loop."""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from device_agent.core.trust import Source
from device_agent.trouble import Trouble
from device_agent.watchdog import Pulse
from device_agent.wire.configuration import AgentConfiguration, NumberedConfiguration
from device_agent.wire.trust import TrustBundle

_MOST_BROUGHT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A trust bundle that somebody brought, and who waits to hear what became of it."""

    bundle: TrustBundle
    source: Source
    done: asyncio.Future[None] | None = None


class Signals:
    """Flags and a bell: whoever sets a flag rings, and the driver looks."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()
        self.pulse = Pulse()
        """By which a watchdog knows that the driver comes along."""
        self.is_connected = False
        self.lost: str | None = None
        """Why the connection ended by itself; None while it stands, or was closed by us."""
        self.trouble: Trouble | None = None
        """What went wrong last; None where nothing is wrong now."""
        self.brought: deque[Brought] = deque(maxlen=_MOST_BROUGHT)
        """Trust bundles that were not judged yet; of too many the newest."""
        self.time_doubt: str | None = None
        """Why the server's last signed time is not believed; None where it is."""
        self.configuration: NumberedConfiguration | None = None
        """What the server's last notice has set; it stays retained there, and is kept nowhere else."""
        self.distrust: str | None = None
        """Why the last trust bundle was not taken; None where it was."""

    @property
    def word(self) -> str | None:
        """What is wrong now, in one word, as the status and the state topic tell it."""
        if self.trouble is not None:
            return self.trouble.word
        return self.distrust or self.time_doubt

    @property
    def settings(self) -> AgentConfiguration:
        """What the server has set; nothing where it has not."""
        return AgentConfiguration() if self.configuration is None else self.configuration.settings

    @property
    def configured(self) -> int:
        """The number of what the server has set; 0: nothing."""
        return 0 if self.configuration is None else self.configuration.number

    def ring(self) -> None:
        """Have the driver look now."""
        self._bell.set()

    async def rest(self, length: timedelta) -> None:
        """Wait so long, or until somebody rings."""
        self.pulse.rests(length)
        try:
            async with asyncio.timeout(length.total_seconds()):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()
        self.pulse.works()
