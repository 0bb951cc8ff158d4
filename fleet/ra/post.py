"""Leaves retained messages for devices at their broker, as somebody outside the use cases does it."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fleet.errors import UnreachableError

Post: TypeAlias = Callable[[str, bytes], Awaitable[None]]
"""Takes topic and body, and returns once a broker has them; raises `UnreachableError`."""


async def no_post(topic: str, body: bytes) -> None:
    """Refuse: this process has no connection to a broker."""
    raise UnreachableError(
        f"{len(body)} bytes for {topic} cannot be posted: no broker is connected", hint="fleet serve"
    )
