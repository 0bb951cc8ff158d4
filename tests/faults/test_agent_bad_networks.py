"""An agent on bad networks, on real sockets: it gives up in time, keeps what it has, and comes back."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_agent.agent import Agent
from device_agent.channels.mqtt import MqttOptions
from device_agent.core.stored import decode, encode
from device_agent.wire.replies import BrokerAddress, HttpsAddress
from tests.bad_network import Impostor, Proxy, Talk, showing
from tests.broker_bench import running_broker, serving
from tests.device import Table
from tests.pki import Pair, Pki, utc_now
from tests.provisioner import Provisioner
from tests.waiting import until

OPTIONS = MqttOptions(
    timeout=timedelta(seconds=0.4), reply_timeout=timedelta(seconds=0.4), keepalive=timedelta(seconds=1)
)
STRANGER = Pki()
CONNACK = b"\x20\x02\x00\x00"
MEGABYTE = 1 << 20


@dataclass(kw_only=True)
class Field:
    """A device that was enrolled in memory, and is now told that its broker is at `port`."""

    table: Table

    @classmethod
    async def at(cls, port: int, folder: Path) -> "Field":
        table = Table(folder=folder)
        name = table.server.identity.name
        table.server.broker = BrokerAddress(host="localhost", port=port, name=name)
        table.server.recovery = HttpsAddress(host="localhost", port=port)
        await table.enroll()
        return cls(table=table)

    def agent(self) -> AbstractContextManager[Agent]:
        return Agent.opened(replace(self.table.settings, mqtt=OPTIONS, first_wait=timedelta(milliseconds=50)))

    def kept(self) -> dict[str, bytes]:
        """Return every file whose loss would cost the identity; on which rung it stands is none of it."""
        state = self.table.state
        names = ("record", "current/cert.pem", "current/trust.pem", "current/servers.pem")
        keys = [f"keys/{key.name}" for key in (state / "keys").iterdir()]
        found = {name: (state / name).read_bytes() for name in (*names, *keys)}
        return {**found, "record": encode(replace(decode(found["record"]), standing=None))}


async def captive_portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def says_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(MEGABYTE):
        pass


async def drips(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open a TLS record, and send a byte of it now and then, so that no read times out."""
    writer.write(b"\x16\x03\x03\x40\x00")
    while True:
        writer.write(b"\x02")
        await writer.drain()
        await asyncio.sleep(0.1)


async def never_ends(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"\x00" * MEGABYTE)
        await writer.drain()


async def closes(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


def server_of(pki: Pki, host: str = "localhost") -> Pair:
    return pki.server(host)


def ended(pki: Pki) -> Pair:
    return pki.servers.leaf(
        "server",
        usages=(ExtendedKeyUsageOID.SERVER_AUTH,),
        hosts=("localhost",),
        not_after=utc_now() - timedelta(minutes=1),
    )


NO_TLS: dict[str, Talk] = {
    "a captive portal": captive_portal,
    "nobody who answers": says_nothing,
    "a handshake that drips": drips,
    "bytes without end": never_ends,
    "a closed door": closes,
}
WRONG_CERTIFICATE: dict[str, Callable[[Pki], Pair]] = {
    "of another fleet": lambda _pki: server_of(STRANGER),
    "for another host": lambda pki: server_of(pki, "elsewhere.example"),
    "of a device": lambda pki: pki.device("d2"),
    "that has ended": ended,
}
NO_BROKER: dict[str, Talk] = {
    "HTML in place of MQTT": captive_portal,
    "no CONNACK": says_nothing,
    "junk without end": never_ends,
}


async def keeps_all_and_tries_again(impostor: Impostor, folder: Path) -> None:
    field = await Field.at(impostor.port, folder)
    before = field.kept()
    with field.agent() as agent:
        serial = agent.status().serial
        async with agent.connected():
            await until(lambda: impostor.visits >= 3 and agent.status().problem is not None)
            status = agent.status()
    assert (status.serial, status.connected) == (serial, False)
    assert status.problem in {"unreachable", "not-admitted", "disconnected"}
    assert field.kept() == before


@pytest.mark.parametrize("name", NO_TLS)
async def test_what_does_not_speak_tls_costs_nothing_but_time(name: str, tmp_path: Path) -> None:
    async with Impostor(NO_TLS[name]).standing() as impostor:
        await keeps_all_and_tries_again(impostor, tmp_path)


@pytest.mark.parametrize("name", WRONG_CERTIFICATE)
async def test_a_broker_with_a_wrong_certificate_hears_not_one_byte(name: str, tmp_path: Path) -> None:
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1))

    pair = WRONG_CERTIFICATE[name](Provisioner().pki)
    async with Impostor(listen).standing(tls=showing(pair, tmp_path)) as impostor:
        field = await Field.at(impostor.port, tmp_path)
        before = field.kept()
        with field.agent() as agent:
            async with agent.connected():
                await until(lambda: agent.status().problem == "unreachable")
        assert (bytes(heard), field.kept()) == (b"", before)


@pytest.mark.parametrize("name", NO_BROKER)
async def test_a_server_of_the_fleet_that_is_no_broker_costs_nothing_but_time(
    name: str, tmp_path: Path
) -> None:
    tls = showing(Provisioner().pki.server("localhost"), tmp_path)
    async with Impostor(NO_BROKER[name]).standing(tls=tls) as impostor:
        await keeps_all_and_tries_again(impostor, tmp_path)


async def test_a_packet_of_a_quarter_of_a_gigabyte_is_not_waited_for(tmp_path: Path) -> None:
    """It is refused by its length: a device has less memory than MQTT 3.1.1 lets a packet have (2.2.3)."""

    async def announce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(CONNACK + b"\x30\xff\xff\xff\x7f" + b"begins")
        await says_nothing(reader, writer)

    tls = showing(Provisioner().pki.server("localhost"), tmp_path)
    async with Impostor(announce).standing(tls=tls) as impostor:
        tracemalloc.start()
        try:
            await keeps_all_and_tries_again(impostor, tmp_path)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 32 * MEGABYTE


async def test_names_that_do_not_resolve_cost_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(host: str, *_more: object, **_named: object) -> object:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    field = await Field.at(8883, tmp_path)
    before = field.kept()
    with field.agent() as agent, monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fail)
        async with agent.connected():
            await until(lambda: len(asked) >= 3 and agent.status().problem == "unreachable")
    assert field.kept() == before


@asynccontextmanager
async def behind_a_proxy(folder: Path) -> AsyncIterator[tuple[Agent, Proxy, Provisioner]]:
    """Give a running agent that is connected through a proxy to a real broker."""
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(running_broker(Provisioner().pki, folder / "broker"))
        proxy = await stack.enter_async_context(Proxy(bench.port).standing())
        field = await Field.at(proxy.port, folder)
        await stack.enter_async_context(serving(bench, field.table.server))
        agent = stack.enter_context(field.agent())
        await stack.enter_async_context(agent.connected())
        await agent.ready()
        yield agent, proxy, field.table.server


@pytest.mark.needs("mosquitto")
async def test_a_peer_that_vanished_without_a_word_is_found_by_keepalive(tmp_path: Path) -> None:
    async with behind_a_proxy(tmp_path) as (agent, proxy, _server):
        proxy.vanish()
        await until(lambda: not agent.status().connected)
        await until(lambda: agent.status().connected)
        await agent.publish("telemetry", b"21.5")
        assert proxy.visits >= 2


@pytest.mark.needs("mosquitto")
async def test_a_line_that_loses_large_pieces_loses_no_message_once_it_is_mended(tmp_path: Path) -> None:
    async with behind_a_proxy(tmp_path) as (agent, proxy, server):
        proxy.largest = 1200
        async with asyncio.TaskGroup() as group:
            group.create_task(agent.publish("telemetry", b"x" * 5000))
            await until(lambda: proxy.visits >= 3)
            proxy.largest = MEGABYTE
        await until(lambda: ("devices/prod/d1/telemetry", b"x" * 5000) in server.seen)
