"""Waits for what happens in other processes, and is told by nobody."""

import asyncio
from collections.abc import Callable

_LONG = 30


async def until(is_so: Callable[[], bool]) -> None:
    """Return as soon as it is so. Raises `TimeoutError`."""
    async with asyncio.timeout(_LONG):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.02)
