"""Waits for what happens in other processes, and is told by nobody."""

import asyncio
from collections.abc import Awaitable, Callable

_LONG = 30


async def until(is_so: Callable[[], bool]) -> None:
    """Return as soon as it is so. Raises `TimeoutError`."""
    async with asyncio.timeout(_LONG):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.02)


async def eventually(is_so: Callable[[], Awaitable[bool]], *, seconds: float = _LONG) -> None:
    """Return as soon as it is so, by what the store has. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not await is_so():  # noqa: ASYNC110 - the server tells nobody when it has done something
            await asyncio.sleep(0.05)
