"""What a station may count on, wherever it gets its certificates from."""

import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.core.journal import Head, Kind
from fleet.core.station_sync import JournalUpload
from fleet.errors import RefusedError
from fleet.service import Listeners, running
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.package import IssueOrder
from fleet.station.own.identity import StationIdentity
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.enroller import Enroller
from fleet.station.server.way import AdminSocket, HttpsServer
from tests.factory_floor import Floor, MemoryUnit
from tests.homes import FleetHome, utc_now
from tests.live import configure, make_live_home
from tests.mqtt import client_context

STATION = "local"
PORTS = {"mqtt_port": 8883, "mqtt_bootstrap_port": 8884, "https_port": 8443, "http_port": 8080}

Opening = Callable[[FleetHome], AbstractAsyncContextManager[Enroller]]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FleetHome]:
    """One home that is asked on its socket, one whose server listens on free ports."""
    found = {
        name: make_live_home(tmp_path_factory.mktemp(name) / "home", driver="embedded")
        for name in ("socket", "https")
    }
    configure(found["socket"].home.config, driver="embedded", ports=PORTS)
    return found


def anchors(home: FleetHome) -> tuple[bytes, ...]:
    pem = home.home.server_trust.read_bytes()
    return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))


@asynccontextmanager
async def in_memory(_home: FleetHome) -> AsyncIterator[Enroller]:
    yield Floor().enroller


@asynccontextmanager
async def on_the_socket(home: FleetHome) -> AsyncIterator[Enroller]:
    server = AdminSocket(path=home.home.admin_socket, station=STATION)
    async with (
        running(home.home.root, listeners=Listeners.ADMIN_ONLY),
        HttpEnroller.opened(server, servers=anchors(home)) as enroller,
    ):
        yield enroller


@asynccontextmanager
async def over_https(home: FleetHome) -> AsyncIterator[Enroller]:
    files = home.home.station(STATION)
    tls = client_context(trust=home.home.server_trust, certificate=files.certificate, key=files.key)
    async with running(home.home.root) as service:
        server = HttpsServer(host="localhost", port=service.context.endpoints.https_port, tls=tls)
        async with HttpEnroller.opened(server, servers=anchors(home)) as enroller:
            yield enroller


OPENINGS: dict[str, Opening] = {"memory": in_memory, "socket": on_the_socket, "https": over_https}


@pytest.fixture(params=OPENINGS)
async def enroller(request: pytest.FixtureRequest, homes: dict[str, FleetHome]) -> AsyncIterator[Enroller]:
    home = homes["https" if request.param == "https" else "socket"]
    async with OPENINGS[request.param](home) as opened:
        yield opened


def order(
    unit: MemoryUnit | None = None, *, device_id: str | None = None, replaces: str | None = None
) -> IssueOrder:
    unit = unit or MemoryUnit(hardware_id=f"hw-{secrets.token_hex(4)}")
    device_id = device_id or f"u-{secrets.token_hex(6)}"
    return IssueOrder(
        device_id=device_id, hardware_id=unit.hardware_id, csr=unit.request(device_id), replaces=replaces
    )


async def test_the_certificate_is_for_the_key_and_the_id(enroller: Enroller) -> None:
    asked = order()
    issued = await enroller.issue(asked)
    leaf = x509.load_der_x509_certificate(issued.chain[0])
    assert leaf.public_key() == x509.load_der_x509_csr(asked.csr).public_key()
    assert leaf.subject.rfc4514_string() == f"CN={asked.device_id}"
    assert issued.serial == f"{leaf.serial_number:032x}"
    assert issued.broker.name == f"prod:{asked.device_id}"


async def test_the_chain_leads_to_an_anchor(enroller: Enroller) -> None:
    issued = await enroller.issue(order())
    path = [x509.load_der_x509_certificate(octets) for octets in (*issued.chain, issued.anchors[0])]
    for certificate, issuer in itertools.pairwise(path):
        certificate.verify_directly_issued_by(issuer)


async def test_the_same_request_gets_the_same_certificate(enroller: Enroller) -> None:
    asked = order()
    assert await enroller.issue(asked) == await enroller.issue(asked)


async def test_another_key_for_an_id_is_refused(enroller: Enroller) -> None:
    first = order()
    await enroller.issue(first)
    with pytest.raises(RefusedError):
        await enroller.issue(order(device_id=first.device_id))


async def test_another_key_that_says_what_it_replaces_gets_a_certificate_again_and_again(
    enroller: Enroller,
) -> None:
    first = order()
    lost = await enroller.issue(first)
    second = order(device_id=first.device_id, replaces=lost.serial)
    issued = await enroller.issue(second)
    assert issued.serial != lost.serial
    assert await enroller.issue(second) == issued


async def test_a_confirmation_may_be_repeated(enroller: Enroller) -> None:
    issued = await enroller.issue(order())
    await enroller.confirm(issued.serial)
    await enroller.confirm(issued.serial)


async def test_a_journal_is_taken_in_its_order_and_once(
    enroller: Enroller, request: pytest.FixtureRequest, homes: dict[str, FleetHome], tmp_path: Path
) -> None:
    opening = request.node.callspec.params["enroller"]
    files = homes["https" if opening == "https" else "socket"].home.station(STATION)
    identity = StationIdentity.load(files.certificate, files.key)
    async with Ledger.opened(tmp_path / "ledger.db", clock=utc_now, identity=identity) as ledger:
        for name in ("ada", "bob"):
            await ledger.note(Kind.SIGNED_ON, {"operator": name})
        entries, head = await ledger.journal_after(0, most=9), await ledger.journal_head()
    empty = await enroller.sync(JournalUpload(now=utc_now()))
    assert (empty.head, empty.fault) == (Head(), "")
    for sent in (entries[:2], entries, entries[2:]):
        receipt = await enroller.sync(JournalUpload(now=utc_now(), entries=sent))
    assert (receipt.head, receipt.fault) == (head, "")
    assert receipt.rules.batches
