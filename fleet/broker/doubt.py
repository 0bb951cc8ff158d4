"""Remembers why a broker's list may not be the store's, until a whole list settles it."""

import asyncio


class Doubt:
    """A reason, or none. What arises while a list is being replaced is not settled by that list."""

    def __init__(self) -> None:
        self._reason = ""
        self._arisen = 0
        self._set = asyncio.Event()

    @property
    def number(self) -> int:
        """How many doubts have arisen so far: take it before the list is read."""
        return self._arisen

    def arise(self, reason: str) -> None:
        """Doubt the list."""
        self._arisen += 1
        self._reason = reason
        self._set.set()

    def settle(self, number: int) -> None:
        """Settle all doubts up to `number`."""
        if number == self._arisen:
            self._set.clear()

    async def reason(self) -> str:
        """Wait for a doubt and return why."""
        await self._set.wait()
        return self._reason
