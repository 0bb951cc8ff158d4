"""A device whose key never leaves its token, from its code to its second certificate, on each broker."""

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent import asking
from device_agent.agent import Agent
from device_agent.cli import main
from device_agent.config import Settings
from device_agent.core.clock import Moment
from device_agent.core.record import Anchor
from device_agent.errors import BadInputError
from device_agent.keys.place import open_keys
from device_agent.tls import client_context
from fleet.core import lifecycle
from tests.e2e.test_agent_fleet import DRIVERS, backend, device_of, enrollment, settings, until
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.tokens import SoftHsm, SoftToken

pytestmark = pytest.mark.needs("softhsm2-util")


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("tokens") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.fixture
def token(tmp_path: Path) -> Iterator[SoftToken]:
    with SoftHsm.at(tmp_path / "softhsm") as hsm:
        yield hsm.token()


def token_settings(folder: Path, token: SoftToken) -> Settings:
    return replace(settings(folder), key_place=token.uri)


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
@pytest.mark.usefixtures("one_version")
async def test_a_device_lives_with_each_of_its_keys_in_the_token(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken, kind: str
) -> None:
    await live_with_keys_in(f"{token.uri}&key-type={kind}", fleet, tmp_path)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def one_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have agents speak one version of TLS alone."""
    version: ssl.TLSVersion = request.param

    def context(servers: Iterable[Anchor], *, moment: Moment) -> ssl.SSLContext:
        made = client_context(servers, moment=moment)
        made.minimum_version = made.maximum_version = version
        return made

    monkeypatch.setattr(asking, "client_context", context)


async def live_with_keys_in(uri: str, fleet: LiveFleet, folder: Path) -> None:
    """Enroll, connect, renew and publish, with keys in a token alone."""
    name, state = f"token-{uuid.uuid4().hex[:8]}", folder / "state"
    with Agent.opened(replace(settings(folder), key_place=uri)) as agent:
        first = await agent.enroll_mqtt(await enrollment(fleet, name))
        async with backend(fleet) as client, agent.connected():
            await client.subscribe(f"devices/prod/{name}/up")
            await agent.ready()
            second = await agent.renew()
            await agent.publish("up", b"signed in the token")
            assert (await client.receive()).body == b"signed in the token"
        device = await device_of(fleet, agent)
    assert first.serial != second.serial == device.current
    assert lifecycle.admitted(device) == {second.serial}
    # The record before the last one may still name the first key; a next write lets it go.
    assert second.key in open_keys(state).names()
    assert not (state / "keys").exists()
    assert not (state / "current" / "key.pem").exists()
    assert str(second.key) in (state / "current" / "key.uri").read_text()
    assert b"PRIVATE" not in b"".join(file.read_bytes() for file in state.rglob("*") if file.is_file())


async def test_a_device_survives_its_token_being_pulled(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken
) -> None:
    with Agent.opened(token_settings(tmp_path, token)) as agent:
        await agent.enroll_mqtt(await enrollment(fleet, "pulled"))
        token.pull()
        async with agent.connected():
            await until(lambda: agent.status().problem == "key-store")
            token.put_back()
            await agent.ready()
            await until(lambda: agent.status().problem is None)


async def test_an_enrolled_device_does_not_move_its_keys_and_a_reset_destroys_them(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    with Agent.opened(token_settings(tmp_path, token)) as agent:
        await agent.enroll_mqtt(await enrollment(fleet, "resets"))
    with (
        pytest.raises(BadInputError, match="has its keys in pkcs11:token="),
        Agent.opened(replace(settings(tmp_path), key_place="file:")),
    ):
        pytest.fail("the keys moved")
    keys = open_keys(state)
    assert keys.names()
    assert await asyncio.to_thread(main, ["--state", str(state), "reset", "--yes"]) == 0
    assert keys.names() == ()


async def test_doctor_says_which_way_tls_takes(
    fleet: LiveFleet, tmp_path: Path, token: SoftToken, capsys: pytest.CaptureFixture[str]
) -> None:
    from device_agent.looking import examined  # noqa: PLC0415 - main() would begin a second loop

    with Agent.opened(token_settings(tmp_path, token)) as agent:
        await agent.enroll_mqtt(await enrollment(fleet, "looked-at"))
    findings = {found["name"]: found for found in await examined(settings(tmp_path).state)}
    assert findings["key"]["ok"], json.dumps(findings)
    assert f"in the token, by the agent's own provider in {ssl.OPENSSL_VERSION}" in str(
        findings["tls"]["text"]
    )
