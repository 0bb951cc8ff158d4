"""A server certificate of another CA is brought, judged, taken in live, and kept where the next is broken."""

import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet import config
from fleet.errors import BadInputError
from fleet.home import Home
from fleet.ra.health import examine
from fleet.ra.own.brought import judge, look, read_brought, take_in
from fleet.ra.own.own_renewal import look_after_own
from fleet.store.audit import AuditQuery, search_newest
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, client_context
from tests.pki import Authority, Pair, key_pem, pem_of, utc_now

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


@dataclass(kw_only=True)
class PublicCa:
    """A CA that everybody knows, but for the fleet's devices; and the folder of who fetches from it."""

    folder: Path
    root: Authority
    issuing: Authority

    @classmethod
    def at(cls, folder: Path) -> "PublicCa":
        folder.mkdir()
        root = Authority.root("Public root")
        (folder / "root.pem").write_bytes(pem_of(root.certificate))
        return cls(folder=folder, root=root, issuing=root.issuing("Public issuing"))

    def leaf(self, *hosts: str, **options: object) -> Pair:
        return self.issuing.leaf("server", usages=SERVER, hosts=hosts or ("localhost",), **options)  # type: ignore[arg-type]  # passed on

    def put(self, pair: Pair, *, chain: bool = True, key: Pair | None = None) -> None:
        """Write the files as an ACME client does: the newest behind links."""
        newest = self.folder / f"archive-{pair.certificate.serial_number}"
        newest.mkdir(exist_ok=True)
        chained = (pair.certificate, *pair.chain) if chain else (pair.certificate,)
        (newest / "fullchain.pem").write_bytes(b"".join(pem_of(one) for one in chained))
        (newest / "privkey.pem").write_bytes(key_pem((key or pair).key))
        (newest / "privkey.pem").chmod(0o640)
        for name in ("fullchain.pem", "privkey.pem"):
            link = self.folder / f".{name}"
            link.symlink_to(newest / name)
            link.replace(self.folder / name)


@pytest.fixture(scope="module", params=DRIVERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("brought") / "home", driver=request.param)


@pytest.fixture
def public(tmp_path: Path) -> PublicCa:
    return PublicCa.at(tmp_path / "acme")


@pytest.fixture
def home(made: FleetHome, public: PublicCa, tmp_path: Path) -> FleetHome:
    found = Home(shutil.copytree(made.home.root, tmp_path / "home", symlinks=True))
    bring(found, public)
    return FleetHome(home=found, authority=made.authority, made_at=made.made_at)


def bring(home: Home, public: PublicCa) -> None:
    folder = public.folder
    names = (
        f'[server]\ncertificate = "{folder}/fullchain.pem"\nkey = "{folder}/privkey.pem"\n'
        f'trust = "{folder}/root.pem"'
    )
    home.config.write_text(home.config.read_text().replace("[server]", names))


@pytest.fixture
async def fleet(home: FleetHome, public: PublicCa, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    public.put(public.leaf())
    async with live(home, tmp_path) as running:
        await look_after_own(running.context)
        yield running


async def shown_at(fleet: LiveFleet, port: int, tls: ssl.SSLContext) -> int:
    client = await MqttClient.open(tls, port=port)
    der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await client.close()
    return x509.load_der_x509_certificate(der).serial_number


async def test_every_listener_shows_what_was_brought_and_devices_know_its_root(
    fleet: LiveFleet, public: PublicCa
) -> None:
    device = await fleet.enrolled("d1")
    endpoints, claim = fleet.context.endpoints, fleet.home.home.public_claim("prod")
    trust = fleet.home.home.server_trust
    assert public.root.certificate in x509.load_pem_x509_certificates(trust.read_bytes())
    claiming = client_context(trust=trust, certificate=claim.certificate, key=claim.key)

    shown = {
        await shown_at(fleet, endpoints.https_port, device.tls()),
        await shown_at(fleet, endpoints.mqtt_port, device.tls()),
        await shown_at(fleet, endpoints.mqtt_bootstrap_port, claiming),
    }

    brought = x509.load_pem_x509_certificate((public.folder / "fullchain.pem").read_bytes())
    assert shown == {brought.serial_number}


async def test_the_next_one_is_taken_in_live_and_nobody_is_dropped(
    fleet: LiveFleet, public: PublicCa
) -> None:
    device = await fleet.enrolled("d2")
    async with device.connected() as client:
        fresh = public.leaf()
        public.put(fresh)

        await look_after_own(fleet.context)
        assert not await take_in(fleet.context)

        await client.ping()
        number = await shown_at(fleet, fleet.context.endpoints.mqtt_port, device.tls())
    assert number == fresh.certificate.serial_number
    entries = await fleet.context.store.read(search_newest, AuditQuery(limit=3))
    assert "certificate.brought" in {one.entry.action for one in entries}


async def test_a_broken_next_one_is_refused_the_earlier_stays_and_the_doctor_says_why(
    fleet: LiveFleet, public: PublicCa
) -> None:
    device = await fleet.enrolled("d3")
    before = await shown_at(fleet, fleet.context.endpoints.mqtt_port, device.tls())
    public.put(public.leaf("somewhere.else"))

    async with fleet.context.tls_users.turn:
        with pytest.raises(BadInputError, match="devices would not believe it"):
            await look(fleet.context)
        await look(fleet.context)  # the same again is not told again
    await fleet.context.tls_users.reload()

    assert await shown_at(fleet, fleet.context.endpoints.mqtt_port, device.tls()) == before
    (finding,) = [one for one in await examine(fleet.context) if one.check == "server certificate"]
    assert not finding.ok
    assert "hostname" in finding.text
    public.put(public.leaf())
    await look_after_own(fleet.context)
    assert not fleet.context.tls_users.refused


async def test_without_it_the_fleets_own_ca_makes_one_again(
    home: FleetHome, public: PublicCa, tmp_path: Path
) -> None:
    public.put(public.leaf())
    async with live(home, tmp_path) as fleet:
        await look_after_own(fleet.context)
    text = home.home.config.read_text()
    lines = [line for line in text.splitlines() if str(public.folder) not in line]
    home.home.config.write_text("\n".join(lines))

    async with live(home, tmp_path) as fleet:
        await look_after_own(fleet.context)
        device = await fleet.enrolled("d4")
        number = await shown_at(fleet, fleet.context.endpoints.mqtt_port, device.tls())

    brought = x509.load_pem_x509_certificate((public.folder / "fullchain.pem").read_bytes())
    assert number != brought.serial_number
    async with live(home, tmp_path):
        trusted = x509.load_pem_x509_certificates(home.home.server_trust.read_bytes())
    assert public.root.certificate not in trusted


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("other key", "key does not belong"),
        ("no chain", "unable to get local issuer"),
        ("other host", "hostname mismatch"),
        ("expired", "not today"),
        ("not yet", "not today"),
        ("client", "not for servers"),
        ("unknown root", "unable to get local issuer|self-signed"),
        ("garbage", "cannot be read"),
    ],
)
def test_what_devices_would_not_believe_is_refused_with_its_reason(
    tmp_path: Path, what: str, why: str
) -> None:
    public, now, trusted = PublicCa.at(tmp_path / "acme"), utc_now(), True
    pair = public.leaf()
    match what:
        case "other key":
            public.put(pair, key=public.leaf())
        case "no chain":
            public.put(pair, chain=False)
        case "other host":
            public.put(public.leaf("elsewhere.example"))
        case "expired":
            public.put(public.leaf(not_after=now - timedelta(minutes=1)))
        case "not yet":
            public.put(public.leaf(not_before=now + timedelta(hours=1)))
        case "client":
            public.put(public.issuing.leaf("server", hosts=("localhost",)))
        case "unknown root":
            public.put(pair)
            trusted = False
        case _:
            public.put(pair)
            (public.folder / "fullchain.pem").resolve().write_text("no certificate")
    server = config.ServerConfig(
        certificate=public.folder / "fullchain.pem", key=public.folder / "privkey.pem"
    )
    trust = public.root if trusted else Authority.root("Another root")
    brought = read_brought(server)
    assert brought is not None

    with pytest.raises(BadInputError, match=why):
        judge(brought, host="localhost", trust_pem=pem_of(trust.certificate).decode(), now=now)


def test_a_good_one_is_judged_good(tmp_path: Path) -> None:
    public = PublicCa.at(tmp_path / "acme")
    public.put(public.leaf("*.example.org", "fleet.example.org"))
    server = config.ServerConfig(
        certificate=public.folder / "fullchain.pem", key=public.folder / "privkey.pem"
    )
    brought = read_brought(server)
    assert brought is not None

    for host in ("fleet.example.org", "other.example.org"):
        leaf = judge(brought, host=host, trust_pem=pem_of(public.root.certificate).decode(), now=utc_now())
        assert leaf.fingerprint(hashes.SHA256())
    assert read_brought(replace(server, certificate=None, key=None)) is None


def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    public = PublicCa.at(tmp_path / "acme")
    public.put(public.leaf())
    key = (public.folder / "privkey.pem").resolve()
    key.chmod(0o644)
    server = config.ServerConfig(
        certificate=public.folder / "fullchain.pem", key=public.folder / "privkey.pem"
    )

    with pytest.raises(BadInputError, match="can be read by others"):
        read_brought(server)
