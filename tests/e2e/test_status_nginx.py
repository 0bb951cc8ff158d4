"""nginx in front of the status listener, configured as the guide says: it carries what it may, no longer."""

import asyncio
import base64
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from yarl import URL

from fleet.ca.issuer import Issuer
from fleet.config import load
from fleet.home import Home
from fleet.model import Purpose, RevocationReason
from fleet.ra.crls import list_of
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.web.status import MAX_AGE
from tests.e2e.test_tutorial import Reader, Step, reader
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, live, make_live_home
from tests.status import entries_of, ocsp_request

__all__ = ["reader"]

pytestmark = pytest.mark.needs("nginx")

GUIDE = (Path(__file__).parents[2] / "docs/how-to/serve-status-with-nginx.md").read_text()


@dataclass(frozen=True, kw_only=True)
class Front:
    """nginx, as relying parties reach it."""

    place: str
    session: aiohttp.ClientSession

    async def ask(self, request: bytes) -> tuple[str, ocsp.OCSPResponse]:
        """Ask by GET, base64's slashes as they are; return what the cache did, and the answer."""
        path = base64.b64encode(request).decode().replace("+", "%2B").replace("=", "%3D")
        async with self.session.get(URL(f"{self.place}/ocsp/{path}", encoded=True)) as response:
            answer = ocsp.load_der_ocsp_response(await response.read())
            return response.headers["X-Cache-Status"], answer

    async def listed(self, path: str) -> dict[str, str]:
        """Return what a list names."""
        async with self.session.get(path) as response:
            return entries_of(await response.read())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("nginx") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture
async def front(fleet: LiveFleet, tmp_path: Path) -> AsyncIterator[Front]:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(config_of(fleet, tmp_path, port))
    place = f"http://127.0.0.1:{port}"
    async with nginx(tmp_path, port), aiohttp.ClientSession(place) as session:
        yield Front(place=place, session=session)


def config_of(fleet: LiveFleet, folder: Path, port: int) -> str:
    """Return the configuration of the guide, on free ports and in a folder of the test."""
    (block,) = re.findall(r"```nginx\n(.*?)```", GUIDE, re.DOTALL)
    for shown, here in (
        ("/var/cache/nginx/fleet", str(folder / "cache")),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:8080", f"127.0.0.1:{fleet.context.endpoints.http_port}"),
    ):
        assert shown in block
        block = block.replace(shown, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    return (
        f"{user}daemon off;\nworker_processes 1;\npid {folder / 'pid'};\nerror_log {folder / 'error.log'};\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{block}}}\n"
    )


@asynccontextmanager
async def nginx(folder: Path, port: int) -> AsyncIterator[None]:
    arguments = ("-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log")
    process = await asyncio.create_subprocess_exec("nginx", *arguments)
    try:
        async with asyncio.timeout(20):
            while not await answers(port):
                assert process.returncode is None, (folder / "error.log").read_text()
        yield
    finally:
        process.terminate()
        await process.wait()


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def issuer_of(fleet: LiveFleet) -> Issuer:
    return fleet.context.authority.issuer(Purpose.DEVICE, "prod")


def serial_of(device: LiveDevice) -> str:
    assert device.issued is not None
    return device.issued.serial


async def test_one_answer_of_the_server_serves_many_clients(fleet: LiveFleet, front: Front) -> None:
    serial = serial_of(await fleet.enrolled("asked-often"))
    found = [await front.ask(ocsp_request(issuer_of(fleet), serial)) for _ in range(3)]
    assert [cache for cache, _ in found] == ["MISS", "HIT", "HIT"]
    assert {answer.certificate_status for _, answer in found} == {ocsp.OCSPCertStatus.GOOD}


async def test_slashes_in_a_question_arrive_as_they_were_sent(fleet: LiveFleet, front: Front) -> None:
    request = ocsp_request(issuer_of(fleet), "7f" + "ff" * 15)
    assert "//" in base64.b64encode(request).decode()
    _, answer = await front.ask(request)
    assert answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


async def test_what_is_no_question_is_never_kept(front: Front) -> None:
    for _ in range(2):
        cache, answer = await front.ask(b"no question")
        assert (cache, answer.response_status.name) == ("MISS", "MALFORMED_REQUEST")


async def test_a_revocation_gets_through_when_the_kept_answer_is_over(
    fleet: LiveFleet, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.web.status.MAX_AGE", timedelta(seconds=1))
    device = await fleet.enrolled("revoked-behind-it")
    serial = serial_of(device)
    request, part = ocsp_request(issuer_of(fleet), serial), list_of(issuer_of(fleet).issuer_id, serial).path
    for _ in range(2):
        cache, before = await front.ask(request)
        assert serial not in await front.listed(part)
    await revoke(
        fleet.context,
        ByDevice(identities=(device.identity,)),
        reason=RevocationReason.KEY_COMPROMISE,
        actor="operator:test",
    )

    assert (cache, before.certificate_status) == ("HIT", ocsp.OCSPCertStatus.GOOD)
    async with asyncio.timeout(20):  # it waits for the cache, however slow this machine is
        while (await front.ask(request))[1].certificate_status is not ocsp.OCSPCertStatus.REVOKED:
            pass
        while serial not in await front.listed(part):
            pass


async def test_a_post_is_answered_by_the_server_each_time(fleet: LiveFleet, front: Front) -> None:
    serial = serial_of(await fleet.enrolled("asks-by-post"))
    body = ocsp_request(issuer_of(fleet), serial, nonce=b"n" * 32)
    async with front.session.post("/ocsp", data=body) as response:
        answer = ocsp.load_der_ocsp_response(await response.read())
        kept = response.headers["Cache-Control"]
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert len(answer.extensions) == 1
    assert kept == "no-store"


async def test_nothing_else_is_reached_through_it(front: Front) -> None:
    for path in ("/", "/api/v1/enroll", "/healthz"):
        async with front.session.get(path) as response:
            assert response.status == 404


def test_the_guide_says_how_long_a_cache_may_keep_an_answer() -> None:
    assert f"**{int(MAX_AGE.total_seconds())} seconds**" in GUIDE


def test_the_name_that_the_guide_chooses_stands_in_every_certificate(reader: Reader) -> None:
    (command,) = re.findall(r"^(fleet init .*)$", GUIDE, re.MULTILINE)
    (url,) = re.findall(r'^status_url = "(.*)"$', GUIDE, re.MULTILINE)

    reader.run(Step("export FLEET_HOME=$PWD/acme"))
    reader.run(Step(command))
    home = Home(reader.folder / "acme")

    assert load(home.config).server.status_url == url
    for path in (home.trust_chain("prod"), home.public_claim("prod").certificate, home.service.certificate):
        leaf = x509.load_pem_x509_certificate(path.read_bytes())
        assert {address.partition("/crl/")[0] for address in crl_places(leaf)} == {url}
        assert {place.partition("/o")[0].partition("/ca/")[0] for place in access_places(leaf)} == {url}


def crl_places(leaf: x509.Certificate) -> list[str]:
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    return [str(name.value) for point in points for name in point.full_name or ()]


def access_places(leaf: x509.Certificate) -> list[str]:
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    return [str(one.access_location.value) for one in access]
