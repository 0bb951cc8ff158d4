"""What a running agent lends to other programs of the device: its connection and its key, a socket each.

Only what the settings name is lent.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from device_agent.config import Settings
from device_agent.control import serving
from device_agent.life import Life
from device_agent.sharing import sharing
from device_agent.signer_socket import LentSigner
from device_agent.traffic import Traffic


@asynccontextmanager
async def lending(settings: Settings, life: Life, traffic: Traffic) -> AsyncIterator[None]:
    """Serve other programs while the body runs; raises `StateError` where a socket cannot be made."""
    async with AsyncExitStack() as stack:
        if settings.share is not None:
            await stack.enter_async_context(sharing(settings.share, traffic))
        if settings.signer is not None:
            signer = LentSigner(life, seconds=time.monotonic)
            await stack.enter_async_context(serving(settings.signer, signer.acts))
        yield
