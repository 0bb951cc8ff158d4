"""A station elsewhere whose key is in a token: it speaks HTTPS with that key, by stunnel, or not at all."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from device_agent.agent import Agent
from device_agent.config import Settings
from fleet.ca.signers import checked_signature
from fleet.cli.remote import Remote
from fleet.cli.station_key import key_in_token
from fleet.cli.station_renewing import nobody_else, renewal_of
from fleet.cli.workplace import Workplace
from fleet.errors import BadInputError, FleetError, UnreachableError
from fleet.home import KeyPairFiles
from fleet.model import CertificateState
from fleet.pair_files import in_force, place_of
from fleet.ra.people.stations import add_station
from fleet.station.link.cable import Cable
from fleet.station.own.identity import StationIdentity
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.tunnel import TokenServer, Tunnel
from tests.desk import station_order
from tests.e2e.test_factory_line import order
from tests.e2e.test_line_run import PATIENCE, Pc, until
from tests.e2e.test_own_bearers import state_of
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.offline import RULES
from tests.pki import Pki, pem_of
from tests.tokens import PIN, SoftHsm, SoftToken

pytestmark = pytest.mark.needs("softhsm2-util", "stunnel4", "setpriv")
WRONG = "654321"
WORKING = """
import asyncio, sys
from pathlib import Path
from fleet.cli.remote import Remote
from fleet.cli.workplace import Workplace
from fleet.station.server.tunnel import Tunnel
folder = Path(sys.argv[1])
certificate, key, trust = (folder / name for name in ("local.crt", "local.key", "server.pem"))
remote = Remote(server=sys.argv[2], certificate=certificate, key=key, trust=trust)
async def main():
    async with Tunnel.opened(Workplace.elsewhere(remote, None).server) as tunnel:
        print(tunnel._child._process.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
"""A station that stands still."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("token-station") / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    pytest.importorskip("pkcs11")
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as found:
        yield found


@dataclass(frozen=True, kw_only=True)
class Far:
    """A station's computer: its certificate, where its key is, and what it believes the server by."""

    files: KeyPairFiles
    trust: Path
    token: SoftToken
    server: str

    def place(self, *, server: str | None = None) -> Workplace:
        remote = Remote(
            server=server or self.server,
            certificate=self.files.certificate,
            key=self.files.key,
            trust=self.trust,
        )
        return Workplace.elsewhere(remote, None)

    @asynccontextmanager
    async def enroller(self, *, server: str | None = None) -> AsyncIterator[HttpEnroller]:
        place = self.place(server=server)
        async with HttpEnroller.opened(place.server, servers=place.anchors) as enroller:
            yield enroller


@pytest.fixture
async def far(fleet: LiveFleet, hsm: SoftHsm, tmp_path: Path) -> Far:
    """Add a station with its key in a token, as `fleet station add --token` does."""
    name, folder, token = f"far-{uuid.uuid4().hex[:8]}", tmp_path / "pc", hsm.token()
    folder.mkdir()
    files = KeyPairFiles(certificate=folder / "local.crt", key=folder / "local.key")
    with key_in_token(name, files, token.uri) as key:
        new = await add_station(fleet.context, station_order(name, rules=RULES, csr=key.csr))
    files.certificate.write_text(new.own.certificate_pem)
    trust = folder / "server.pem"
    trust.write_bytes(fleet.home.home.server_trust.read_bytes())
    server = f"https://localhost:{fleet.context.endpoints.https_port}"
    return Far(files=files, trust=trust, token=token, server=server)


def process_of(tunnel: Tunnel) -> asyncio.subprocess.Process:
    assert tunnel._child is not None
    return tunnel._child._process


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Tunnel]:
    """The tunnels that were made."""
    found: list[Tunnel] = []
    real = Tunnel.__init__

    def init(tunnel: Tunnel, server: TokenServer, socket: Path) -> None:
        found.append(tunnel)
        real(tunnel, server, socket)

    monkeypatch.setattr(Tunnel, "__init__", init)
    return found


async def test_a_line_elsewhere_makes_a_unit_with_its_key_in_a_token(
    fleet: LiveFleet, far: Far, tmp_path: Path
) -> None:
    pc = Pc(far.files.certificate.parent, far.server)
    trust = fleet.home.home.server_trust.read_text()
    with Cable() as cable:
        line = await pc.start("run", "--jsonl", "--port", cable.station_port, "--batch", "spring")
        try:
            await until(line, lambda told: told["stage"] == "waiting")
            with Agent.opened(Settings(state=tmp_path / "unit", hardware_id="hw-1")) as agent:
                async with asyncio.timeout(PATIENCE):
                    await agent.enroll_serial(cable.device_port, device_id="spring-0001", trust_pem=trust)
            made = await until(line, lambda told: told["stage"] == "synced")
        finally:
            line.terminate()
            _, said = await line.communicate()
    assert (made["device_id"], line.returncode) == ("spring-0001", 0), said
    assert not far.files.key.exists()


async def test_a_station_renews_with_another_key_in_its_token_and_leaves_none_behind(
    fleet: LiveFleet, hsm: SoftHsm
) -> None:
    home, name, token = fleet.home.home, f"near-{uuid.uuid4().hex[:8]}", hsm.token()
    files = home.station(name)
    with key_in_token(name, files, token.uri) as key:
        new = await add_station(fleet.context, station_order(name, rules=RULES, csr=key.csr))
    files.certificate.write_text(new.own.certificate_pem)
    place = Workplace.at_home(home, name)
    identities = [StationIdentity.load(files.certificate, files.key)]
    for _ in range(2):
        async with AsyncExitStack() as stack:
            renewal = await renewal_of(stack, place)
            identities.append(await renewal.renew(nobody_else))
        pair = in_force(place.files)
        assert StationIdentity.load(pair.certificate, pair.key).serial == identities[-1].serial
        assert place_of(pair.key) == place_of(files.key) == home.stations
        identities[-1].signer.unlock()
        assert checked_signature(b"text", identities[-1].signer, public_key=identities[-1].signer.public_key)
    states = [await state_of(fleet, identity.serial) for identity in identities]
    assert states == [CertificateState.SUPERSEDED, CertificateState.SUPERSEDED, CertificateState.ACTIVE]
    for gone in identities[:-1]:
        with pytest.raises(FleetError):
            gone.signer.unlock()
    assert not list(home.stations.rglob(f"{name}.key"))
    files.key.write_bytes(b"")
    with pytest.raises(BadInputError, match="there are both"):
        StationIdentity.load(files.certificate, files.key)


@pytest.mark.parametrize("killed_at", ["make_token_key", "put_in_force", "finish"])
async def test_a_station_elsewhere_renews_in_its_token_though_it_was_killed(
    far: Far, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    place, before = far.place(), StationIdentity.load(far.files.certificate, far.files.key)
    where = "fleet.ca.token" if killed_at == "make_token_key" else "fleet.station.server.renewal"
    real = getattr(sys.modules[where], killed_at)

    def dies_after(*arguments: object, **named: object) -> None:
        real(*arguments, **named)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(f"{where}.{killed_at}", dies_after)
        async with AsyncExitStack() as stack:
            renewal = await renewal_of(stack, place)
            with pytest.raises(KilledError):
                await renewal.renew(nobody_else)

    async with AsyncExitStack() as stack:
        after = await (await renewal_of(stack, far.place())).renew(nobody_else)
        after.signer.unlock()
    with pytest.raises(FleetError):
        before.signer.unlock()
    assert len(list(far.token.folder.glob("*-*.object"))) == 2
    assert not list(far.trust.parent.glob("*.next*")) + list(far.trust.parent.glob("*.before*"))


class KilledError(Exception):
    """No cleanup may run on it that a kill would not run."""


async def test_nobody_else_can_enter_and_one_that_was_killed_is_followed_by_another(
    far: Far, opened: list[Tunnel]
) -> None:
    async with far.enroller() as enroller:
        asked = order("spring-0002")
        first = await enroller.issue(asked)
        (tunnel,) = opened
        process = process_of(tunnel)
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (tunnel.socket, tunnel.socket.parent)]
        assert modes == [0o600, 0o700]
        shown = [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        assert all(PIN.encode() not in one for one in shown)
        assert [path.name for path in tunnel.socket.parent.iterdir()] == ["tls.sock"]

        process.kill()
        await process.wait()
        assert await enroller.issue(asked) == first
        assert process_of(tunnel).pid != process.pid
    assert process_of(tunnel).returncode is not None
    assert not tunnel.socket.parent.exists()


async def test_stunnel_ends_with_a_station_that_is_killed(far: Far) -> None:
    with TemporaryDirectory() as left_behind:
        station = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKING, str(far.trust.parent), far.server),
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": left_behind},
        )
        assert station.stdout is not None
        async with asyncio.timeout(PATIENCE):
            pid = int(await station.stdout.readline())
            with end_of(pid) as ended:
                station.send_signal(signal.SIGKILL)
                await station.wait()
                await ended.wait()
        assert not [path for path in Path(left_behind).rglob("*") if path.is_file()]


@contextmanager
def end_of(pid: int) -> Iterator[asyncio.Event]:
    """Give what is set when a process that is not our child has ended (pidfd_open(2))."""
    ended, descriptor = asyncio.Event(), os.pidfd_open(pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_a_server_that_is_away_not_trusted_or_of_another_name_is_refused_and_said_why(
    fleet: LiveFleet, far: Far
) -> None:
    port = fleet.context.endpoints.https_port
    strangers = pem_of(Pki().roots["fleet"].certificate)
    cases = {
        "https://localhost:1": "refused",
        "https://nobody.invalid": "nobody.invalid",
        f"https://127.0.0.2:{port}": "CERT|refused",
        f"https://127.1:{port}": "CERT",
    }
    for server, why in cases.items():
        async with far.enroller(server=server) as enroller:
            with pytest.raises(UnreachableError, match=f"does not answer by stunnel: .*({why})"):
                await enroller.issue(order("spring-0003"))
    far.trust.write_bytes(strangers)
    async with far.enroller() as enroller:
        with pytest.raises(UnreachableError, match=r"does not answer by stunnel: .*(CERT|verify)"):
            await enroller.issue(order("spring-0003"))


async def test_a_wrong_pin_is_tried_once_even_by_the_next_start(far: Far) -> None:
    far.token.pin_file.write_text(f"{WRONG}\n")
    for why in ("refuses the PIN", "refused this PIN before"):
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKING, str(far.trust.parent), far.server), stderr=subprocess.PIPE
        )
        _, said = await done.communicate()
        assert why in said.decode()
        assert WRONG not in said.decode()


async def test_a_pin_that_becomes_wrong_while_the_station_works_is_given_to_stunnel_once(
    far: Far, opened: list[Tunnel]
) -> None:
    async with far.enroller() as enroller:
        process = process_of(opened[0])
        far.token.pin_file.write_text(f"{WRONG}\n")
        process.kill()
        await process.wait()
        for why in ("PIN incorrect", "refused this PIN before"):
            with pytest.raises(UnreachableError, match=f"the server cannot be asked: .*{why}") as caught:
                await enroller.issue(order("spring-0004"))
            assert WRONG not in f"{caught.value}{caught.value.hint}"
        far.token.pin_file.write_text(f"{PIN}\n")
        assert (await enroller.issue(order("spring-0004"))).serial


async def test_what_a_station_with_a_token_lacks_is_named_and_no_key_in_a_file_is_made(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(far.trust.parent.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setenv("OPENSSL_ENGINES", "/nowhere")
        with pytest.raises(FleetError, match=r"stunnel does not start: .*(engine|shared library)") as caught:
            async with far.enroller():
                pytest.fail("it runs")
        assert caught.value.hint == "apt-get install stunnel4 libengine-pkcs11-openssl"
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(FleetError, match="needs stunnel4, which is not installed"):
        async with far.enroller():
            pytest.fail("it runs")
    assert set(far.trust.parent.rglob("*")) == before
