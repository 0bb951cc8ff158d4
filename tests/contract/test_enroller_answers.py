"""Whatever a server answers a station, it is one clear error and nothing is believed."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from device_agent.wire import messages
from device_agent.wire.problems import ProblemCode
from fleet.errors import RefusedError, UnreachableError
from fleet.station.keeping.package import IssueOrder
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket
from tests.factory_floor import NOW, MemoryUnit

ISSUED = messages.Issued(
    id="1",
    serial="41" * 16,
    certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    chain="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    trust="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    renew_after=NOW,
    broker=messages.BrokerAddress(host="localhost", port=1, name="prod:d1"),
)

Answering = Callable[[bytes], AbstractAsyncContextManager[HttpEnroller]]


@pytest.fixture
def answering(tmp_path: Path) -> Answering:
    """Return a way to an enroller whose server gives one answer to everything."""

    @asynccontextmanager
    async def opened(body: bytes) -> AsyncIterator[HttpEnroller]:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(body=body)

        app = web.Application()
        app.router.add_post("/{anything:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            path = tmp_path / "server.sock"
            await web.UnixSite(runner, str(path)).start()
            server = AdminSocket(path=path, station="s")
            async with HttpEnroller.opened(server, servers=(), patience=timedelta(seconds=5)) as enroller:
                yield enroller
        finally:
            await runner.cleanup()

    return opened


def order() -> IssueOrder:
    return IssueOrder(device_id="d1", hardware_id="hw-1", csr=MemoryUnit().request("d1"))


def problem(code: ProblemCode) -> bytes:
    return messages.encode(messages.Problem.of("1", code, "because"))


UNBELIEVED = {
    "nothing": b"",
    "no JSON": b"<html>",
    "too much": b" " * 200_000,
    "another version": b'{"v":2,"id":"1","type":"issued"}',
    "another type": b'{"v":1,"id":"1","type":"gift"}',
    "not what was asked": messages.encode(messages.Dead(id="1", key_hash="ab" * 32, attempt_floor=0)),
    "no certificates": messages.encode(ISSUED),
    "later": problem(ProblemCode.BUSY),
    "pending": messages.encode(messages.Pending(id="1", retry_after_seconds=30, code="ABCD")),
}


@pytest.mark.parametrize("name", UNBELIEVED)
async def test_an_answer_that_is_no_certificate_means_to_ask_again_later(
    answering: Answering, name: str
) -> None:
    async with answering(UNBELIEVED[name]) as enroller:
        with pytest.raises(UnreachableError):
            await enroller.issue(order())


async def test_a_refusal_for_good_keeps_its_code(answering: Answering) -> None:
    async with answering(problem(ProblemCode.KEY_IN_USE)) as enroller:
        with pytest.raises(RefusedError, match="because") as refused:
            await enroller.issue(order())
    assert refused.value.code is ProblemCode.KEY_IN_USE


async def test_a_confirmation_of_another_certificate_is_none(answering: Answering) -> None:
    body = messages.encode(messages.Confirmed(id="1", serial="42" * 16))
    async with answering(body) as enroller:
        with pytest.raises(UnreachableError):
            await enroller.confirm("41" * 16)


async def test_a_request_that_is_none_is_not_sent(answering: Answering) -> None:
    async with answering(b"") as enroller:
        with pytest.raises(RefusedError, match="request"):
            await enroller.issue(IssueOrder(device_id="d1", hardware_id="hw-1", csr=b"nonsense"))
