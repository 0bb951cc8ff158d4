"""What every way to the server must do; run on each adapter: memory, MQTT on a real broker, HTTPS."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.background import in_background
from device_agent.channels.memory import Fault, Heard, MemoryNetwork
from device_agent.channels.mqtt import MqttOptions
from device_agent.core.stored import read_anchors
from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import Asker, ClaimLogin, HttpsLogin, OperationalLogin, RecoveryLogin, Ways
from device_agent.tls import client_context
from device_agent.ways import NetworkWays
from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.identity import Identity
from device_agent.wire.messages import encode, parse_request
from device_agent.wire.problems import ProblemCode
from device_agent.wire.proofs import recovery_text
from device_agent.wire.replies import Problem, Reply
from device_agent.wire.requests import Confirm, Request
from device_agent.wire.topics import EnrollTopics, OperationalTopics
from tests.broker_bench import free_port, running_broker
from tests.pki import Pki, pem_of

PKI = Pki()
LEAF = PKI.device("d1")
IDENTITY = Identity(domain="prod", device_id="d1")
SERIAL = LEAF.serial
CLIENT = "a" * 64
NONCE = "0f" * 32
OPTIONS = MqttOptions(timeout=timedelta(seconds=5), reply_timeout=timedelta(seconds=1))
ASKED = Confirm(id="1")


class Manner(Enum):
    """How the other end behaves."""

    ANSWER = auto()
    SILENT = auto()
    JUNK = auto()
    OTHER_ID = auto()


class Line:
    """One way, and the manners of its other end."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[Asker]]) -> None:
        self.opened = opened
        self.manner = Manner.ANSWER
        self.heard: list[bytes] = []
        self.asked = asyncio.Event()

    def hear(self, body: bytes) -> None:
        self.heard.append(body)
        self.asked.set()

    def reply(self, body: bytes) -> bytes | None:
        self.hear(body)
        asked = "other" if self.manner is Manner.OTHER_ID else parse_request(body).id
        reply = encode(Problem.of(asked, ProblemCode.BUSY, "heard"))
        return {Manner.SILENT: None, Manner.JUNK: b"\xff" + reply}.get(self.manner, reply)


class Nobody:
    def message(self, topic: str, payload: bytes) -> None:
        raise AssertionError(topic)

    def lost(self, why: str) -> None:
        pass


class InMemory:
    """The server of the memory network, which has faults instead of manners."""

    def __init__(self) -> None:
        self.line: Line | None = None

    def admits(self, login: OperationalLogin) -> bool:
        return login.serial == SERIAL

    def answer(self, heard: Heard, request: Request) -> Reply:
        assert self.line is not None
        self.line.hear(encode(request))
        asked = "other" if self.line.manner is Manner.OTHER_ID else request.id
        return Problem.of(asked, ProblemCode.BUSY, heard.route)

    def plan(self) -> "Plan":
        return Plan(self)


class Plan:
    def __init__(self, server: InMemory) -> None:
        self._server = server

    def __iter__(self) -> "Plan":
        return self

    def __next__(self) -> Fault:
        assert self._server.line is not None
        faults = {Manner.SILENT: Fault.LOSE_REPLY, Manner.JUNK: Fault.CORRUPT}
        return faults.get(self._server.line.manner, Fault.NONE)


def context(*, armed: bool, folder: Path) -> ssl.SSLContext:
    made = client_context(read_anchors(pem_of(PKI.roots["fleet"].certificate).decode()))
    if armed:
        made.load_cert_chain(*LEAF.write(folder, "d1"))
    return made


def logins(folder: Path, port: int) -> tuple[ClaimLogin, OperationalLogin, RecoveryLogin]:
    return (
        ClaimLogin(host="localhost", port=port, client=CLIENT, tls=context(armed=True, folder=folder)),
        OperationalLogin(
            host="localhost",
            port=port,
            identity=IDENTITY,
            serial=SERIAL,
            tls=context(armed=True, folder=folder),
        ),
        RecoveryLogin(
            host="localhost",
            port=port,
            fleet="acme",
            domain="prod",
            certificate=pem_of(LEAF.certificate).decode(),
            sign=lambda message: LEAF.key.sign(message, ec.ECDSA(hashes.SHA256())),
            tls=context(armed=False, folder=folder),
        ),
    )


def opener(ways: Ways, way: str, folder: Path, port: int) -> Callable[[], AbstractAsyncContextManager[Asker]]:
    claim, operational, recovery = logins(folder, port)
    https = HttpsLogin(host="localhost", port=port, serial=SERIAL, tls=context(armed=True, folder=folder))
    openers: dict[str, Callable[[], AbstractAsyncContextManager[Asker]]] = {
        "claim": lambda: ways.claim(claim),
        "operational": lambda: ways.operational(operational, Nobody()),
        "https": lambda: ways.https(https),
        "recovery": lambda: ways.recovery(recovery),
    }
    return openers[way]


@asynccontextmanager
async def memory(way: str, folder: Path) -> AsyncIterator[Line]:
    server = InMemory()
    network = MemoryNetwork(server, plan=iter(server.plan()))
    server.line = Line(opener(network, way, folder, 1))
    yield server.line


@asynccontextmanager
async def mqtt(way: str, folder: Path) -> AsyncIterator[Line]:
    async with running_broker(PKI, folder) as bench:
        line = Line(opener(NetworkWays(OPTIONS), way, folder, bench.port))
        client = aiomqtt.Client("localhost", bench.port, tls_context=bench.context("service"))
        async with client:
            await client.subscribe("fleet/v1/#", qos=1)
            async with in_background(answer_all(client, line)):
                yield line


async def answer_all(client: aiomqtt.Client, line: Line) -> None:
    pairs = (EnrollTopics(client=CLIENT), OperationalTopics(identity=IDENTITY, serial=SERIAL))
    answers = {pair.request: pair.response for pair in pairs}
    async for message in client.messages:
        topic = message.topic.value
        reply = line.reply(message.payload) if topic in answers else None
        if reply is not None:
            await client.publish(answers[topic], reply, qos=1)


@asynccontextmanager
async def https(way: str, folder: Path) -> AsyncIterator[Line]:
    port = free_port()
    line = Line(opener(NetworkWays(OPTIONS), way, folder, port))
    certificate, key = PKI.server("localhost").write(folder, "server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(cadata=pem_of(PKI.roots["prod"].certificate).decode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        body = await answer_http(reader, line, shown=shown)
        if body is None:
            await reader.read()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls):
        yield line


async def answer_http(reader: asyncio.StreamReader, line: Line, *, shown: bytes | None) -> bytes | None:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"GET /api/v1/nonce "):
        return json.dumps({"nonce": NONCE, "expires_in": 120}).encode()
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    if head.startswith(b"POST /api/v1/confirm "):
        assert shown == LEAF.certificate.public_bytes(Encoding.DER)
        return line.reply(await reader.readexactly(length))
    assert head.startswith(b"POST /api/v1/recover ")
    proof = json.loads(await reader.readexactly(length))
    body = base64.b64decode(proof["request"])
    key = x509.load_pem_x509_certificate(proof["certificate"].encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    text = recovery_text(fleet="acme", domain="prod", nonce=NONCE, request=body)
    key.verify(base64.b64decode(proof["signature"]), text, ec.ECDSA(hashes.SHA256()))
    return line.reply(body)


ADAPTERS = {"memory": memory, "mqtt": mqtt, "https": https}
WAYS = [
    pytest.param("memory", "claim"),
    pytest.param("memory", "operational"),
    pytest.param("memory", "recovery"),
    pytest.param("mqtt", "claim", marks=pytest.mark.needs("mosquitto")),
    pytest.param("mqtt", "operational", marks=pytest.mark.needs("mosquitto")),
    pytest.param("https", "recovery"),
    pytest.param("memory", "https"),
    pytest.param("https", "https"),
]


@pytest.fixture
async def line(adapter: str, way: str, tmp_path: Path) -> AsyncIterator[Line]:
    async with ADAPTERS[adapter](way, tmp_path) as opened:
        yield opened


each = pytest.mark.parametrize(("adapter", "way"), WAYS)


@each
async def test_the_reply_to_this_very_request_is_returned(line: Line) -> None:
    async with line.opened() as asker:
        reply = await asker.ask(ASKED)
    assert (reply.id, reply.kind) == ("1", "problem")
    assert line.heard == [encode(ASKED)]


@each
@pytest.mark.parametrize("manner", [Manner.SILENT, Manner.JUNK, Manner.OTHER_ID])
async def test_what_is_no_reply_to_it_is_a_failure_and_the_next_request_is_answered(
    line: Line, manner: Manner
) -> None:
    line.manner = manner
    async with line.opened() as asker:
        with pytest.raises(ChannelError):
            await asker.ask(ASKED)
        line.manner = Manner.ANSWER
        assert (await asker.ask(Confirm(id="2"))).id == "2"


@each
async def test_asking_can_be_cancelled_and_leaves_nothing_open(line: Line) -> None:
    line.manner = Manner.SILENT

    async def ask() -> None:
        async with line.opened() as asker:
            await asker.ask(ASKED)

    asking = asyncio.ensure_future(ask())
    await line.asked.wait()
    asking.cancel()
    # In memory nothing is waited for: what is lost is lost at once.
    with pytest.raises((asyncio.CancelledError, ChannelError)):
        await asking


@pytest.mark.parametrize(("adapter", "way"), [WAYS[5], WAYS[7]])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1) + b"x" * (MAX_BODY_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=[
        "closed",
        "not http",
        "no length",
        "cut short",
        "two lengths",
        "too long",
        "endless head",
        "no nonce",
        "redirect",
    ],
)
async def test_a_server_that_speaks_http_badly_is_one_clear_error(
    answer: bytes, adapter: str, way: str, tmp_path: Path
) -> None:
    port = free_port()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*PKI.server("localhost").write(tmp_path, "server"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    opened = opener(NetworkWays(OPTIONS), way, tmp_path, port)
    async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls), opened() as asker:
        with pytest.raises(ChannelError):
            await asker.ask(ASKED)


async def test_a_certificate_that_https_turns_away_in_tls_is_told_from_a_server_that_is_away(
    tmp_path: Path,
) -> None:
    """So the next way is tried at once, as with a broker."""
    port = free_port()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*PKI.server("localhost").write(tmp_path, "server"))
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(cadata=pem_of(Pki().roots["prod"].certificate).decode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    opened = opener(NetworkWays(OPTIONS), "https", tmp_path, port)
    async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls), opened() as asker:
        with pytest.raises(NotAdmittedError):
            await asker.ask(ASKED)
