"""A gateway's way to the server, over a real socket: an answer is heard to its end, and no further."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from device_agent.wire.fields import MAX_BODY_BYTES
from fleet.errors import UnreachableError
from fleet.station.server.courier import HttpCourier
from fleet.station.server.way import AdminSocket

_TURNS = 50


@asynccontextmanager
async def courier_to(folder: Path, pieces: Sequence[bytes]) -> AsyncIterator[HttpCourier]:
    """Give a courier whose server answers in pieces."""

    async def nonce(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            for _ in range(_TURNS):  # whoever listens has its turn in between
                await asyncio.sleep(0)
        return response

    app = web.Application()
    app.router.add_get("/api/v1/nonce", nonce)
    runner = web.AppRunner(app)
    await runner.setup()
    path = folder / "admin.sock"
    await web.UnixSite(runner, str(path)).start()
    try:
        async with HttpCourier.opened(AdminSocket(path=path, station="line3")) as courier:
            yield courier
    finally:
        await runner.cleanup()


async def test_an_answer_that_comes_in_pieces_is_heard_to_its_end(tmp_path: Path) -> None:
    async with courier_to(tmp_path, [b'{"nonce": "', b"ab" * 32, b'"}']) as courier:
        assert await courier.nonce() == b"\xab" * 32


async def test_an_answer_without_end_is_not_heard_out(tmp_path: Path) -> None:
    async with courier_to(tmp_path, [b" " * MAX_BODY_BYTES] * 8) as courier:
        with pytest.raises(UnreachableError):
            await courier.nonce()
