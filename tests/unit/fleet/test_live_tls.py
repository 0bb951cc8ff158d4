"""A server's TLS is replaced under standing connections, and a client checks one name."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.home import KeyPairFiles
from fleet.live_tls import Door, OwnClient, put_pair
from tests.mqtt import client_context
from tests.pki import Pair, Pki, bundle, key_pem


@dataclass(kw_only=True)
class Server:
    """What the door is made from, and which clients' roots it trusts."""

    folder: Path
    pki: Pki
    trusted: list[Pki] = field(default_factory=list)

    def make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pki.server().write(self.folder, "server"))
        for one in self.trusted:
            trust = bundle(self.folder, "clients.pem", one.roots["prod"].certificate)
            context.load_verify_locations(cafile=trust)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


@dataclass(kw_only=True)
class Caller:
    port: int
    folder: Path
    calls: list["Call"] = field(default_factory=list)

    async def call(self, trust: Pki, pair: Pair | None, newest: ssl.TLSVersion) -> "Call":
        certificate, key = pair.write(self.folder, "client") if pair else (None, None)
        roots = bundle(self.folder, "trust.pem", trust.roots["fleet"].certificate)
        tls = client_context(trust=roots, certificate=certificate, key=key)
        tls.maximum_version = newest
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname="localhost"
        )
        self.calls.append(Call(reader=reader, writer=writer))
        return self.calls[-1]


@dataclass(kw_only=True)
class Call:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, word: bytes) -> bytes:
        """Return what comes back; nothing where the server hung up."""
        try:
            self.writer.write(word + b"\n")
            return (await self.reader.readline()).strip()
        except OSError:
            return b""


@asynccontextmanager
async def answering(door: Door, folder: Path) -> AsyncIterator[Caller]:
    writers: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError):
            while line := await reader.readline():
                writer.write(line)

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=door.context)
    caller = Caller(port=server.sockets[0].getsockname()[1], folder=folder)
    async with asyncio.timeout(20):
        yield caller
    server.close()
    for writer in (*writers, *(call.writer for call in caller.calls)):
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_trust_and_certificate_are_replaced_and_who_is_connected_stays(
    tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    first, second = Pki(), Pki()
    server = Server(folder=tmp_path, pki=first, trusted=[first])
    door = Door(server.make)
    async with answering(door, tmp_path) as caller:
        before = await caller.call(first, first.device("d1"), newest)
        assert await before.says(b"one") == b"one"
        server.pki, server.trusted = second, [second]

        door.reload()

        assert await before.says(b"two") == b"two"
        with pytest.raises(ssl.SSLCertVerificationError):
            await caller.call(first, None, newest)
        after = await caller.call(second, second.device("d1"), newest)
        assert await after.says(b"three") == b"three"
        assert await is_turned_away(caller, second, first.device("d1"), newest)


async def is_turned_away(caller: Caller, trust: Pki, pair: Pair, newest: ssl.TLSVersion) -> bool:
    try:
        return await (await caller.call(trust, pair, newest)).says(b"in?") == b""
    except OSError:
        return True


async def test_what_cannot_be_made_leaves_the_door_as_it_is(tmp_path: Path) -> None:
    pki = Pki()
    server = Server(folder=tmp_path, pki=pki)
    door = Door(server.make)
    async with answering(door, tmp_path) as caller:
        server.folder = tmp_path / "gone" / "file"
        (tmp_path / "gone").write_text("no folder")

        with pytest.raises(OSError, match="gone"):
            door.reload()

        call = await caller.call(pki, None, ssl.TLSVersion.TLSv1_3)
        assert await call.says(b"on") == b"on"


def test_a_pair_that_does_not_fit_leaves_the_one_in_use(tmp_path: Path) -> None:
    pki = Pki()
    good, bad = pki.server().write(tmp_path, "good"), pki.server().write(tmp_path, "bad")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    put_pair(context, KeyPairFiles(certificate=good[0], key=good[1]))

    with pytest.raises(ssl.SSLError):
        put_pair(context, KeyPairFiles(certificate=bad[0], key=good[1]))

    assert_shakes_hands(context, trust=bundle(tmp_path, "trust.pem", pki.roots["fleet"].certificate))


def assert_shakes_hands(server: ssl.SSLContext, *, trust: Path) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client_context(trust=trust).wrap_bio(to_client, to_server, server_hostname="localhost")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (one, other, one, other):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert one.version() == "TLSv1.3"


def test_a_client_of_our_own_minds_one_name_and_says_when_it_shows_another_certificate(
    tmp_path: Path,
) -> None:
    pki = Pki()
    certificate, key = pki.service().write(tmp_path, "service")
    files = KeyPairFiles(certificate=certificate, key=key)
    trust = bundle(tmp_path, "trust.pem", pki.roots["fleet"].certificate)

    client = OwnClient(host="fleet.example.org", trust=trust, files=files)

    assert client.context.expected == "fleet.example.org"
    assert client.context.check_hostname
    assert client.context.verify_mode is ssl.CERT_REQUIRED
    assert not client.reload()
    pki.service().write(tmp_path, "service")
    assert client.reload()


def test_a_client_of_our_own_goes_on_where_its_files_are_no_pair(tmp_path: Path) -> None:
    pki = Pki()
    certificate, key = pki.service().write(tmp_path, "service")
    trust = bundle(tmp_path, "trust.pem", pki.roots["fleet"].certificate)
    client = OwnClient(host="h", trust=trust, files=KeyPairFiles(certificate=certificate, key=key))
    key.write_bytes(key_pem(pki.service().key))

    with pytest.raises(FleetError, match="cannot be used"):
        client.reload()
