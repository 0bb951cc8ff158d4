"""Networks that are bad in one way each, on real sockets: what a device meets in the field."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

from tests.pki import Pair

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_HOST = "127.0.0.1"
_CHUNK = 64 * 1024


class _Standing(ABC):
    """Something at a port of its own; `visits` counts who came."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0
        self._visitors: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def standing(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._visited, _HOST, 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for visitor in self._visitors:
                visitor.cancel()
            await asyncio.gather(*self._visitors, return_exceptions=True)

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        task = asyncio.current_task()
        assert task is not None
        self._visitors.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        finally:
            self._visitors.discard(task)
            writer.transport.abort()

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...


class Impostor(_Standing):
    """Whatever stands where the broker should be."""

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self._talk = talk

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._talk(reader, writer)


class Proxy(_Standing):
    """Passes bytes on between devices and a broker, and loses what it is told to lose."""

    def __init__(self, broker_port: int) -> None:
        super().__init__()
        self._broker_port = broker_port
        self._lost_until = 0
        self.largest = _CHUNK
        """A larger piece from the device is lost, and with it all that comes after it, as TCP has it."""

    def vanish(self) -> None:
        """Pass nothing more on any connection that stands, and close none; those to come are good."""
        self._lost_until = self.visits

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = self.visits
        from_broker, to_broker = await asyncio.open_connection(_HOST, self._broker_port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, to_broker, visit, most=lambda: self.largest))
                group.create_task(self._pass(from_broker, writer, visit, most=lambda: _CHUNK))
        finally:
            to_broker.transport.abort()

    async def _pass(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        visit: int,
        *,
        most: Callable[[], int],
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_CHUNK):
                if len(piece) > most() or visit <= self._lost_until:
                    await asyncio.Event().wait()
                target.write(piece)
            target.close()


def showing(pair: Pair, folder: Path) -> ssl.SSLContext:
    """Return the context of a server that shows this certificate and asks for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.write(folder, "impostor"))
    return context
