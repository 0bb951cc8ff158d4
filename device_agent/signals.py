"""What the connection's user and the driver tell each other, within one event loop."""

import asyncio
from datetime import timedelta


class Signals:
    """Flags and a bell: whoever sets a flag rings, and the driver looks."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()
        self.is_connected = False
        self.lost: str | None = None
        """Why the connection ended by itself; None while it stands, or was closed by us."""
        self.problem: str | None = None
        """What went wrong last; None where nothing is wrong now."""

    def ring(self) -> None:
        """Have the driver look now."""
        self._bell.set()

    async def rest(self, length: timedelta) -> None:
        """Wait so long, or until somebody rings."""
        try:
            async with asyncio.timeout(length.total_seconds()):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()
