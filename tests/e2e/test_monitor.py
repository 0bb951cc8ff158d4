"""Refused certificates, as live Mosquitto, Apache and nginx log them: by cause, once each, and shown."""

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from device_agent.wire import messages
from device_agent.wire.requests import Renew
from fleet.core.causes import Cause
from fleet.core.log_lines import Finding, Product
from fleet.core.log_readers import feed, reader_of
from fleet.ra.people.operators import LOCAL
from tests.desk import Unit
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import NotLetInError
from tests.relying_servers import Certificates, Server, make_certificates, serving, visit
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "nginx", "apache2")

KINDS = ("valid", "other-domain", "revoked", "expired", "future", "self-signed", "server-only", "none")
AT_APACHE = {
    "other-domain": Cause.UNKNOWN_CA,
    "revoked": Cause.REVOKED,
    "expired": Cause.EXPIRED,
    "future": Cause.NOT_YET_VALID,
    "self-signed": Cause.SELF_SIGNED,
    "server-only": Cause.WRONG_PURPOSE,
    "none": Cause.NO_CERTIFICATE,
}
# nginx asks for a CA's list before it asks whether it trusts the CA; the access log shows who signed.
AT_NGINX = AT_APACHE | {"other-domain": Cause.NO_LIST, "self-signed": Cause.NO_LIST}
AT_NGINX_ACCESS = AT_NGINX | {"self-signed": Cause.SELF_SIGNED}
AT_MOSQUITTO = dict.fromkeys(AT_APACHE, Cause.NOT_VERIFIED) | {"none": Cause.NO_CERTIFICATE}
CAUSES = {Product.APACHE: AT_APACHE, Product.NGINX: AT_NGINX, Product.MOSQUITTO: AT_MOSQUITTO}


@dataclass(frozen=True, kw_only=True)
class World:
    made: Certificates
    servers: dict[Product, Server]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("relying")
    folder.chmod(0o755)
    made = make_certificates(folder / "certificates")
    with ExitStack() as stack:
        servers = {
            product: stack.enter_context(serving(product, made, folder / product)) for product in Product
        }
        yield World(made=made, servers=servers)


def findings(product: Product, log: Path, *, after: int = 0) -> list[Finding]:
    """Return what a log tells, without as many as were there before."""
    reader = reader_of(product)
    found = (feed(reader, line) for line in log.read_bytes().splitlines())
    # Each start of a server is seen to by a connection that says nothing.
    return [one for one in found if one is not None and one.cause is not Cause.ABORTED][after:]


@pytest.mark.parametrize("tls", [None, ssl.TLSVersion.TLSv1_2], ids=["TLS 1.3", "TLS 1.2"])
@pytest.mark.parametrize("product", list(Product))
async def test_every_refusal_of_a_live_server_is_one_finding_with_its_cause(
    world: World, product: Product, tls: ssl.TLSVersion | None
) -> None:
    server = world.servers[product]
    for kind in KINDS:
        before = len(findings(product, server.log))
        served = await visit(server, world.made, kind, tls=tls)
        if kind == "valid":
            assert served
            continue
        await until(lambda: len(findings(product, server.log, after=before)) == 1)  # noqa: B023 - waited for here
        (one,) = findings(product, server.log, after=before)
        assert (kind, one.cause, one.address) == (kind, CAUSES[product][kind], "127.0.0.1")
        if product is Product.APACHE and kind not in {"none", "other-domain"}:
            assert (one.serial, one.subject) == (world.made.shown[kind].serial, world.made.name(kind))


async def test_the_access_log_of_nginx_says_whose_certificate_it_was(world: World) -> None:
    server = world.servers[Product.NGINX]
    assert server.access is not None
    for kind in KINDS[1:]:
        before = len(findings(Product.NGINX, server.access))
        await visit(server, world.made, kind)
        await until(lambda: len(findings(Product.NGINX, server.access, after=before)) == 1)  # noqa: B023 - as above
        (one,) = findings(Product.NGINX, server.access, after=before)
        shown = world.made.shown.get(kind)
        assert (kind, one.cause) == (kind, AT_NGINX_ACCESS[kind])
        assert one.serial == ("" if shown is None else shown.serial)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world: World) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("monitor") / "home", driver="embedded")
    with made.home.config.open("a") as config:
        for product in (Product.APACHE, Product.NGINX):
            log = world.servers[product].log
            config.write(f'[monitor.logs.{product}]\nproduct = "{product}"\nfile = "{log}"\n')
    return made


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


Rows = list[dict[str, str | int]]


async def items(fleet: LiveFleet, path: str) -> Rows:
    async with fleet.admin() as session, session.get(f"/api/v1/{path}") as response:
        found = json.loads(await response.text())
        assert response.status == 200, found
        rows: Rows = found["items"]
        return rows


async def test_a_running_server_follows_logs_and_takes_shipped_lines_once(
    world: World, fleet: LiveFleet
) -> None:
    await visit(world.servers[Product.APACHE], world.made, "expired")
    await visit(world.servers[Product.NGINX], world.made, "revoked")
    async with asyncio.timeout(30):
        while {row["place"] for row in await items(fleet, "monitor")} < {"log:apache", "log:nginx"}:  # noqa: ASYNC110 - the server asks its files
            await asyncio.sleep(0.05)
    rows = await items(fleet, "monitor?place=log:apache&cause=expired")
    assert rows
    assert all(row["fix"] and row["serial"] == world.made.shown["expired"].serial for row in rows)

    lines = world.servers[Product.MOSQUITTO].log.read_bytes()
    reader = reader_of(Product.MOSQUITTO)
    expected = sum(feed(reader, line) is not None for line in lines.splitlines())
    async with fleet.admin() as session:
        for repeated in (False, True):
            url = "/api/v1/monitor/lines?log=broker-2&product=mosquitto"
            async with session.post(url, data=lines) as response:
                answer = json.loads(await response.text())
                assert answer["repeated"] is repeated
                assert answer["found"] == (0 if repeated else expected)
    shipped = await items(fleet, f"monitor?place=ship:{LOCAL}/broker-2")
    assert sum(int(row["times"]) for row in shipped) == expected
    assert {row["cause"] for row in shipped} <= {"not-verified", "no-certificate", "aborted"}


async def test_our_own_listeners_tell_whom_tls_refused_and_why(world: World, fleet: LiveFleet) -> None:
    made, ports = world.made, fleet.context.endpoints
    for port in (ports.mqtt_port, ports.https_port):
        server = Server(product=Product.NGINX, port=port, log=Path())
        for kind in ("self-signed", "other-domain"):
            assert not await visit(server, made, kind)
    found = await items(fleet, "connections?event=refused&network=127.0.0.0/8")
    told = {(row["place"], row["cause"]) for row in found}
    assert {("embedded", "unknown-ca"), ("https", "unknown-ca")} <= told
    assert {("embedded", "self-signed"), ("https", "self-signed")} <= told


async def test_a_device_is_seen_to_come_go_and_be_refused(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("walks-1")
    async with fleet.https(device) as session, session.get("/healthz"):
        pass
    async with fleet.admin() as session:
        body = {"domain": "prod", "device_id": "walks-1", "reason": "keyCompromise"}
        async with session.post("/api/v1/revocations", json=body) as response:
            assert response.status == 200
    with pytest.raises((NotLetInError, AssertionError, OSError)):
        async with device.connected():
            pass
    renewal = messages.encode(Renew(id=str(uuid4()), csr=Unit(device_id="walks-1").csr, attempt=1))
    async with fleet.https(device) as session, session.post("/api/v1/renew", data=renewal) as response:
        assert response.status == 403
    rows = await items(fleet, "connections?domain=prod&device_id=walks-1")
    seen = {(row["kind"], row["place"], row["cause"]) for row in rows}
    assert {("connected", "embedded", None), ("disconnected", "embedded", None)} <= seen
    assert ("connected", "https", None) in seen
    assert {("refused", "embedded", "revoked"), ("refused", "https", "revoked")} <= seen
    assert device.issued is not None
    assert all(row["serial"] == device.issued.serial for row in rows if row["kind"] == "refused")


async def test_nobody_else_may_hand_in_lines(fleet: LiveFleet) -> None:
    device = await fleet.enrolled("ships-1")
    path = "/api/v1/monitor/lines?log=web&product=nginx"
    async with fleet.https() as stranger, stranger.post(path, data=b"x\n") as response:
        assert response.status == 401
    async with fleet.https(device) as session, session.post(path, data=b"x\n") as response:
        assert response.status == 403
    async with fleet.admin() as session:
        for wrong in ("?log=web", "?product=nginx", f"{path[21:]}&more=1", "?log=web&product=iis"):
            async with session.post(f"/api/v1/monitor/lines{wrong}", data=b"x\n") as response:
                assert response.status == 400, wrong
        too_much = io.BytesIO(b"x" * (1024 * 1024 + 1))
        async with session.post(path, data=too_much) as response:
            assert response.status == 413
        packed = {"Content-Encoding": "gzip"}
        async with session.post(path, data=b"x\n", headers=packed) as response:
            assert response.status == 415


async def test_a_device_that_may_ships_with_its_own_certificate_until_it_is_revoked(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = await asyncio.to_thread(
        make_live_home, tmp_path_factory.mktemp("shippers") / "home", driver="embedded"
    )
    with made.home.config.open("a") as config:
        config.write('[monitor]\nshippers = ["prod:ships-2"]\n')
    async with live(made, tmp_path_factory.mktemp("device")) as fleet:
        device = await fleet.enrolled("ships-2")
        path = "/api/v1/monitor/lines?log=web&product=nginx"
        line = (
            b"2026/11/26 10:54:58 [info] 1#1: *2 client sent no required SSL certificate while reading client"
        )
        async with fleet.https(device) as session, session.post(path, data=line + b"\n") as response:
            assert json.loads(await response.text())["found"] == 1
        async with fleet.admin() as session:
            body = {"domain": "prod", "device_id": "ships-2", "reason": "keyCompromise"}
            async with session.post("/api/v1/revocations", json=body) as response:
                assert response.status == 200
        try:
            async with fleet.https(device) as session, session.post(path, data=line) as response:
                assert response.status == 403
        except aiohttp.ClientError:
            pass  # or TLS refuses it already


@pytest.mark.needs("gcc")
async def test_our_own_mosquitto_tells_whom_tls_refused_and_nobody_twice_over_a_restart(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = await asyncio.to_thread(
        make_live_home, tmp_path_factory.mktemp("mosquitto") / "home", driver="mosquitto"
    )
    folder, told = tmp_path_factory.mktemp("device"), 0
    for _ in range(2):
        async with live(made, folder) as fleet:
            server = Server(
                product=Product.MOSQUITTO, port=fleet.context.endpoints.mqtt_port, log=made.home.broker
            )
            await visit(server, world.made, "none")
            told += 1
            path = "connections?event=refused&place=mosquitto&cause=no-certificate"
            async with asyncio.timeout(30):
                while sum(int(row["times"]) for row in await items(fleet, path)) < told:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)
            assert sum(int(row["times"]) for row in await items(fleet, path)) == told
            if told == 1:
                await fleet.enrolled("walks-2")
            seen = await items(fleet, "connections?domain=prod&device_id=walks-2")
            assert {"connected"} <= {row["kind"] for row in seen} <= {"connected", "disconnected"}
