"""A stock SMP client, which knows nothing of this project, speaks with our device over a real tty."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from smp import error, message
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead
from smpclient.transport.serial import Cobs, SMPSerialRawTransport, SMPSerialTransport

from device_agent.channels.serial import serve_station
from device_agent.core.station_link import LARGEST_MESSAGE
from device_agent.wire.factory import LinkState
from device_agent.wire.smp import DEFAULT_GROUP
from fleet.station.link.cable import Cable
from tests.factory_floor import MemoryUnit, utc_now


class HelloResponse(message.ReadResponse):
    _GROUP_ID = DEFAULT_GROUP
    _COMMAND_ID = 0

    s: bytes
    q: int
    rc: int
    n: bytes
    hw: str
    id: str
    md: str
    st: int
    fp: bytes
    mx: int


class FactoryErrorV1(error.ErrorV1):
    _GROUP_ID = DEFAULT_GROUP


class FactoryErrorV2(error.ErrorV2[int]):
    _GROUP_ID = DEFAULT_GROUP


class Hello(message.ReadRequest):
    _GROUP_ID = DEFAULT_GROUP
    _COMMAND_ID = 0
    _Response: ClassVar = HelloResponse
    _ErrorV1: ClassVar = FactoryErrorV1
    _ErrorV2: ClassVar = FactoryErrorV2

    s: bytes
    q: int
    n: bytes


TRANSPORTS = {
    "console lines": SMPSerialTransport,
    "cobs": lambda: SMPSerialRawTransport(framing=Cobs()),
}


@asynccontextmanager
async def stock_client(transport: str) -> AsyncIterator[SMPClient]:
    """Return a client that is connected to one of our devices."""
    with Cable() as cable:
        device = asyncio.ensure_future(serve_station(cable.device_port, MemoryUnit(), clock=utc_now))
        client = SMPClient(TRANSPORTS[transport](), cable.station_port)
        await client.connect()
        try:
            yield client
        finally:
            await client.disconnect()
            device.cancel()
            await asyncio.gather(device, return_exceptions=True)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stock_client_completes_hello(transport: str) -> None:
    async with stock_client(transport) as client:
        response = await client.request(Hello(s=b"session!", q=1, n=bytes(16)))
    assert success(response)
    assert (response.s, response.q, response.rc) == (b"session!", 1, 0)
    assert (response.hw, response.st, response.fp) == ("hw-1", LinkState.FRESH, b"")
    assert len(response.n) == 16


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stock_client_learns_the_size_of_the_buffer(transport: str) -> None:
    async with stock_client(transport) as client:
        response = await client.request(MCUMgrParametersRead())
    assert success(response)
    assert (response.buf_size, response.buf_count) == (LARGEST_MESSAGE, 1)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stock_client_understands_the_refusal_of_another_group(transport: str) -> None:
    async with stock_client(transport) as client:
        response = await client.request(EchoWrite(d="hello"))
    assert not success(response)
