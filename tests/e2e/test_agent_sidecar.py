"""A device whose Python cannot use its token's key for TLS: stunnel does it, and no less strictly."""

import asyncio
import signal
import ssl
import stat
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.channels.https import https_asker
from device_agent.channels.mqtt import MqttOptions, operational_link
from device_agent.config import Settings
from device_agent.core.clock import Moment, TimeSource
from device_agent.core.record import Anchor
from device_agent.core.stored import read_anchors
from device_agent.errors import ChannelError, KeyStoreError, NotAdmittedError
from device_agent.keys import openssl_library, sidecar
from device_agent.keys.sidecar import Sidecar, Tunnel
from device_agent.keys.token_signer import TokenSigner
from device_agent.ports import HttpsLogin, OperationalLogin
from device_agent.tls import client_context
from device_agent.wire.identity import Identity
from device_agent.wire.requests import StatusQuery
from fleet.core import lifecycle
from tests.contract.test_token_keys import PKI, chain_of, opened
from tests.e2e.test_agent_fleet import backend, device_of, enrollment, settings, until
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.pki import Pki, pem_of
from tests.tokens import PIN, SoftHsm, SoftToken

pytestmark = pytest.mark.needs("softhsm2-util", "stunnel4", "mosquitto", "gcc")
STRANGERS = Pki()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("sidecar") / "home", driver="mosquitto")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture
def token(tmp_path: Path) -> Iterator[SoftToken]:
    with SoftHsm.at(tmp_path / "softhsm") as hsm:
        yield hsm.token()


@pytest.fixture(autouse=True)
def another_python(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a Python whose OpenSSL cannot be reached."""
    monkeypatch.setattr(openssl_library, "_mapped", set)
    openssl_library._opened.cache_clear()
    yield
    monkeypatch.undo()
    openssl_library._opened.cache_clear()


@dataclass
class Seen:
    """Which sidecars ran."""

    tunnels: list[Tunnel] = field(default_factory=list)

    @property
    def last(self) -> Tunnel:
        return self.tunnels[-1]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found = Seen()
    real = Tunnel.ready

    async def ready(tunnel: Tunnel) -> None:
        found.tunnels.append(tunnel)
        await real(tunnel)

    monkeypatch.setattr(Tunnel, "ready", ready)
    return found


def token_settings(folder: Path, token: SoftToken) -> Settings:
    return replace(settings(folder), key_place=token.uri)


async def test_a_device_lives_by_the_sidecar_which_nobody_else_can_enter(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken, seen: Seen
) -> None:
    name = f"beside-{uuid.uuid4().hex[:8]}"
    with Agent.opened(token_settings(tmp_path, token)) as agent:
        first = await agent.enroll_mqtt(await enrollment(fleet, name))
        async with backend(fleet) as client, agent.connected():
            await client.subscribe(f"devices/prod/{name}/up")
            await agent.ready()
            second = await agent.renew()
            await agent.publish("up", b"by the sidecar")
            assert (await client.receive()).body == b"by the sidecar"
            socket, process = seen.last.socket, seen.last._process
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (socket, socket.parent)]
            assert (modes, socket.is_socket()) == ([0o600, 0o700], True)
            told = Path(f"/proc/{process.pid}/cmdline").read_bytes() + b"".join(
                Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            )
            assert PIN.encode() not in told
        device = await device_of(fleet, agent)
    assert first.serial != second.serial == device.current
    assert lifecycle.admitted(device) == {second.serial}
    assert len(seen.tunnels) >= 3, "a renewal has a sidecar of its own"
    assert not any(tunnel.socket.parent.exists() for tunnel in seen.tunnels)
    assert all(tunnel._process.returncode is not None for tunnel in seen.tunnels)
    assert not (tmp_path / "state" / "keys").exists()


async def test_a_sidecar_that_is_killed_is_followed_by_another(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken, seen: Seen
) -> None:
    with Agent.opened(token_settings(tmp_path, token)) as agent:
        await agent.enroll_mqtt(await enrollment(fleet, f"killed-{uuid.uuid4().hex[:8]}"))
        async with agent.connected():
            await agent.ready()
            before = len(seen.tunnels)
            seen.last._process.kill()
            await until(lambda: len(seen.tunnels) > before and agent.status().connected)


async def test_a_sidecar_ends_with_an_agent_that_is_killed(tmp_path: Path, token: SoftToken) -> None:
    store = opened(token, tmp_path)
    store.create("k-1")
    program = f"""
import asyncio, ssl
from pathlib import Path
from device_agent.keys import openssl_library
from tests.contract.test_token_keys import chain_of, opened, PKI
from tests.pki import pem_of
from tests.tokens import SoftToken
openssl_library._mapped = set
token = SoftToken(label={token.label!r}, pin_file=Path({str(token.pin_file)!r}), folder=Path("/nowhere"))
signer = opened(token, Path({str(tmp_path)!r})).open("k-1")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(cadata=pem_of(PKI.roots["fleet"].certificate).decode())
async def main():
    async with signer.arm(context, chain_pem=chain_of(signer)).running("localhost", 1) as tunnel:
        print(tunnel._process.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    pid = int(await agent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    agent.send_signal(signal.SIGKILL)
    await agent.wait()
    await until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def context_for(pki: Pki, *, moment: Moment | None = None) -> ssl.SSLContext:
    (anchor,) = read_anchors(pem_of(pki.roots["fleet"].certificate).decode())
    servers: tuple[Anchor, ...] = (anchor,)
    return client_context(servers, moment=moment)


def signer_of(token: SoftToken, folder: Path) -> TokenSigner:
    return opened(token, folder).create("k-1")


def beside(signer: TokenSigner, context: ssl.SSLContext) -> Sidecar:
    found = signer.arm(context, chain_pem=chain_of(signer))
    assert isinstance(found, Sidecar)
    return found


class Nobody:
    def message(self, topic: str, payload: bytes) -> None:
        pass

    def lost(self, why: str) -> None:
        pass


async def connect(by: Sidecar, *, host: str, port: int, tls: ssl.SSLContext) -> None:
    login = OperationalLogin(
        host=host,
        port=port,
        identity=Identity(domain="prod", device_id="d1"),
        serial="4" * 32,
        tls=tls,
        via=by,
    )
    async with (
        by.running(host, port) as tunnel,
        operational_link(login, listener=Nobody(), options=MqttOptions(), tunnel=tunnel),
    ):
        pytest.fail("it connected")


async def test_a_server_that_is_not_trusted_or_away_is_no_refusal_of_the_device(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken
) -> None:
    signer, port = signer_of(token, tmp_path), fleet.context.endpoints.mqtt_port
    theirs = fleet.home.home.server_trust.read_text()
    wrong_roots, roots = context_for(STRANGERS), client_context(read_anchors(theirs))
    cases = (
        (wrong_roots, "localhost", port, "certificate verify failed|CERT"),
        (roots, "127.1", port, "CERT"),
        (roots, "localhost", 1, "refused"),
        (roots, "nobody.invalid", port, "resolv|name|address"),
    )
    for context, host, at, why in cases:
        with pytest.raises(ChannelError, match=why) as caught:
            await connect(beside(signer, context), host=host, port=at, tls=context)
        assert not isinstance(caught.value, NotAdmittedError), host


async def test_a_broker_that_turns_the_certificate_away_is_told_as_such(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken
) -> None:
    signer = signer_of(token, tmp_path)  # its chain ends at a root that this broker does not know
    context = client_context(read_anchors(fleet.home.home.server_trust.read_text()))
    with pytest.raises(NotAdmittedError):
        await connect(
            beside(signer, context), host="localhost", port=fleet.context.endpoints.mqtt_port, tls=context
        )


async def test_https_goes_through_the_sidecar_as_well(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken
) -> None:
    signer, port = signer_of(token, tmp_path), fleet.context.endpoints.https_port
    trusted = client_context(read_anchors(fleet.home.home.server_trust.read_text()))
    for context, kind in ((trusted, NotAdmittedError), (context_for(STRANGERS), ChannelError)):
        by = beside(signer, context)
        login = HttpsLogin(host="localhost", port=port, serial="4" * 32, tls=context, via=by)
        async with (
            by.running("localhost", port) as tunnel,
            https_asker(login, reply_timeout=MqttOptions().reply_timeout, tunnel=tunnel) as asker,
        ):
            with pytest.raises(ChannelError) as caught:
                await asker.ask(StatusQuery(id="s"))
        assert type(caught.value) is kind


async def test_each_thing_that_a_sidecar_lacks_is_told_and_no_key_in_a_file_is_made(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = signer_of(token, tmp_path)
    chain, before = chain_of(signer), set(tmp_path.rglob("*"))
    then = datetime(2026, 1, 1, tzinfo=UTC)
    moment = Moment(now=then, source=TimeSource.FLOOR, since=then, floor=then)
    with pytest.raises(KeyStoreError, match="cannot judge dates while the system's clock is not believed"):
        signer.arm(context_for(PKI, moment=moment), chain_pem=chain)
    by = beside(signer, context_for(PKI))
    wrong = {
        "does not start: .*key": replace(by, reference=by.reference.replace("k-1", "k-2")),
        "does not start": replace(by, module_path="/nowhere.so"),
        "cannot be told": replace(by, reference=by.reference.replace("?", "\nkey = /etc/shadow?")),
    }
    for why, one in wrong.items():
        with pytest.raises(KeyStoreError, match=why) as caught:
            async with one.running("localhost", 1):
                pytest.fail("it runs")
        assert PIN not in f"{caught.value}{caught.value.hint}"
    monkeypatch.setattr(sidecar.shutil, "which", lambda _name: None)
    with pytest.raises(KeyStoreError, match="and there is no stunnel to do it instead") as told:
        signer.arm(context_for(PKI), chain_pem=chain)
    assert "apt-get install stunnel4" in str(told.value.hint)
    assert set(tmp_path.rglob("*")) == before


@dataclass(frozen=True, kw_only=True)
class Entrance:
    """A tunnel behind which anybody may be."""

    socket: Path

    async def require_tls(self) -> None:
        return


async def test_a_packet_of_any_announced_size_costs_a_connection_and_no_memory(tmp_path: Path) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(bytes.fromhex("20020000 30ffffff7f"))  # CONNACK; PUBLISH of 256 MiB (MQTT 3.1.1 2.2.3)
        await reader.read()
        writer.close()

    entrance, tls = Entrance(socket=tmp_path / "s"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    identity = Identity(domain="prod", device_id="d1")
    login = OperationalLogin(host="h", port=1, identity=identity, serial="4" * 32, tls=tls)
    async with await asyncio.start_unix_server(lie, entrance.socket):
        with pytest.raises(ChannelError):
            async with operational_link(login, listener=Nobody(), options=MqttOptions(), tunnel=entrance):
                pytest.fail("it connected")
