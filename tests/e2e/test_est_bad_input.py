"""Bad HTTP and bad bodies over EST: always a status that says so, never a dropped connection.

Bad requests for certificates are tried in `test_bad_input`, on every channel.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from device_agent.wire.identity import Identity
from fleet.ra.people.claims import CodeOrder, create_codes
from tests.est import EstUnit, basic, leaf
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import client_context

ENROLL = "/.well-known/est/prod/simpleenroll"
DER = base64.b64decode(EstUnit(device_id="d1").csr)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("est") / "home", driver="embedded")
    config = made.home.config
    config.write_text(config.read_text() + "[policy]\nrecover_per_minute = 60000\n")
    return made


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def codes_for(fleet: LiveFleet, *device_ids: str) -> list[str]:
    identities = tuple(Identity(domain="prod", device_id=one) for one in device_ids)
    order = CodeOrder(identities=identities, actor="operator:test", lifetime=timedelta(days=1))
    return [new.code.reveal() for new in await create_codes(fleet.context, order)]


def headers(device_id: str, code: str) -> dict[str, str]:
    return {"Content-Type": "application/pkcs10", "Authorization": basic(device_id, code)}


async def post(
    session: aiohttp.ClientSession, body: bytes, *, login: dict[str, str]
) -> tuple[HTTPStatus, bytes]:
    async with session.post(ENROLL, data=body, headers=login) as response:
        return HTTPStatus(response.status), await response.read()


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def wishful(*, is_ca: bool = False, algorithm: hashes.HashAlgorithm | None = None, names: int = 0) -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(common_name("d1"))
    if is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        many = x509.SubjectAlternativeName([x509.DNSName(f"{number}.example.org") for number in range(names)])
        builder = builder.add_extension(many, critical=False)
    signed = builder.sign(key, algorithm or hashes.SHA256())
    return base64.b64encode(signed.public_bytes(Encoding.DER))


async def test_a_request_for_more_than_a_device_may_have_is_refused_and_costs_no_code(
    fleet: LiveFleet,
) -> None:
    (code,) = await codes_for(fleet, "d1")
    login = headers("d1", code)
    async with fleet.https() as session:
        authority, _ = await post(session, wishful(is_ca=True), login=login)
        other, _ = await post(session, EstUnit(device_id="d2").csr, login=login)
        oversized, _ = await post(session, wishful(names=4000), login=login)
        good, _ = await post(session, EstUnit(device_id="d1").csr, login=login)

    assert authority is HTTPStatus.BAD_REQUEST
    assert other is HTTPStatus.BAD_REQUEST
    assert oversized is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert good is HTTPStatus.OK


GOOD = EstUnit(device_id="d3")


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/pkcs10", b"", HTTPStatus.BAD_REQUEST),
        ("application/pkcs10", b"\r\n", HTTPStatus.BAD_REQUEST),
        ("application/pkcs10", DER, HTTPStatus.BAD_REQUEST),
        ("application/pkcs10", b"!" + GOOD.csr, HTTPStatus.BAD_REQUEST),
        ("application/pkcs10", GOOD.csr + b"\x00", HTTPStatus.BAD_REQUEST),
        ("application/pkcs10", b"A" * 70_000, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        ("text/plain", GOOD.csr, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ("application/json", b"{}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ("application/x-www-form-urlencoded", GOOD.csr, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ("\xff\xfe", GOOD.csr, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    ],
)
async def test_a_body_that_is_none_has_its_status(
    fleet: LiveFleet, content_type: str, body: bytes, status: HTTPStatus
) -> None:
    (code,) = await codes_for(fleet, "d3")
    async with fleet.https() as session:
        found, said = await post(session, body, login=headers("d3", code) | {"Content-Type": content_type})
    assert found is status
    assert said


async def test_a_request_may_come_in_chunks_and_with_broken_lines(fleet: LiveFleet) -> None:
    unit = EstUnit(device_id="chunks")
    (code,) = await codes_for(fleet, "chunks")

    async def in_pieces() -> AsyncIterator[bytes]:
        for octet in b"\r\n\t " + unit.csr.replace(b"\n", b"\r\n") + b"\r\n":
            yield bytes((octet,))

    login = headers("chunks", code) | {"Content-Transfer-Encoding": "8bit"}
    async with fleet.https() as session, session.post(ENROLL, data=in_pieces(), headers=login) as response:
        assert response.status == HTTPStatus.OK
        assert leaf(await response.read()).public_key() == unit.key.public_key()


RAW = [
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nTUlJ\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-4\r\nTUlJ\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n4\r\nTUlJxx0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\nTUlJ\r\n0\r\n\r\n",
    b"Transfer-Encoding: nonsense\r\nContent-Length: 4\r\n\r\nTUlJ",
    b"Content-Length: -1\r\n\r\nTUlJ",
    b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nTUlJ",
    b"Content-Length: four\r\n\r\nTUlJ",
    b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nTUlJ",
    b"Content-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nTUlJ\r\n0\r\n\r\n",
    b"Content-Length: 4\r\nAuthorization: Basic " + b"A" * 20_000 + b"\r\n\r\nTUlJ",
    b"Content-Length: 4\r\nAuthorization: Basic \x80\x81\r\n\r\nTUlJ",
]


@pytest.mark.parametrize("rest", RAW, ids=lambda rest: str(rest[:40]))
async def test_broken_http_gets_an_answer_before_the_connection_ends(fleet: LiveFleet, rest: bytes) -> None:
    head = f"POST {ENROLL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n".encode()
    if b"Authorization" not in rest:
        head += f"Authorization: {basic('d1', 'x')}\r\n".encode()
    answer = await raw(fleet, head + rest)
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer[:200]


async def raw(fleet: LiveFleet, octets: bytes) -> bytes:
    tls = client_context(trust=fleet.home.home.server_trust)
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(
            "localhost", fleet.context.endpoints.https_port, ssl=tls
        )
        writer.write(octets)
        await writer.drain()
        answer = await reader.readline()
        writer.close()
    return answer


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/est",
        "/.well-known/est/",
        "/.well-known/est/%00/cacerts",
        "/.well-known/est/prod%2Fcacerts/x",
        "/.well-known/est/../est/nowhere/cacerts",
        "/nowhere/.well-known/est/cacerts",
        "/.well-known/est/" + "a" * 5000,
    ],
)
async def test_what_is_not_there_is_404(fleet: LiveFleet, path: str) -> None:
    async with fleet.https() as session, session.get(path) as response:
        assert response.status == HTTPStatus.NOT_FOUND
