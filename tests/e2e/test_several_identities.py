"""One agent process with an identity in each of two domains: what befalls one does not befall the other."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.model import RevocationReason
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.programs import Ended, run

pytestmark = pytest.mark.needs("mosquitto", "gcc")

AGENT = (sys.executable, "-m", "device_agent.cli")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("several") / "home", driver="mosquitto")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def call(fleet: LiveFleet, *arguments: str | Path) -> Ended:
    """Run one command of the device, whose state folder is `state`."""
    return await run(*AGENT, "--state", fleet.folder / "state", *arguments, folder=fleet.folder)


async def status(fleet: LiveFleet) -> dict[str, Mapping[str, object]]:
    """Return what each identity is, by domain."""
    members = json.loads((await call(fleet, "status", "--json")).output)
    return {str(each["domain"]): each for each in (members, *members.get("identities", ()))}


async def enroll(fleet: LiveFleet, domain: str, *which: str) -> None:
    order = CodeOrder(
        identities=(Identity(domain=domain, device_id="gate-7"),),
        actor="operator:test",
        lifetime=timedelta(days=1),
    )
    (made,) = await create_codes(fleet.context, order)
    code = fleet.folder / f"code-{domain}"
    code.write_text(made.code.reveal())
    url = f"https://localhost:{fleet.context.endpoints.https_port}/{domain}"
    trust = fleet.home.home.server_trust
    enrolled = await call(
        fleet,
        *which,
        *("enroll", "--est", url, "--device", "gate-7", "--code-file", code, "--trust", trust),
    )
    assert enrolled.code == 0, enrolled.talk


@asynccontextmanager
async def running(fleet: LiveFleet) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *AGENT, "--state", str(fleet.folder / "state"), "run", env=dict(os.environ)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def until_connected(fleet: LiveFleet, *domains: str) -> None:
    async with asyncio.timeout(30):
        connected: set[str] = set()
        while not connected >= set(domains):
            connected = {name for name, each in (await status(fleet)).items() if each["connected"]}


async def test_one_identity_is_revoked_and_the_other_goes_on(fleet: LiveFleet) -> None:
    await enroll(fleet, "prod")
    await enroll(fleet, "lab", "--identity", "lab")
    before = await status(fleet)
    async with running(fleet):
        await until_connected(fleet, "prod", "lab")
        receipt = await revoke(
            fleet.context,
            ByDevice(identities=(Identity(domain="lab", device_id="gate-7"),)),
            reason=RevocationReason.KEY_COMPROMISE,
            actor="operator:test",
        )
        assert receipt.sessions
        async with asyncio.timeout(30):
            while (lost := (await status(fleet))["lab"])["problem"] != "revoked":
                pass
        renewed = await call(fleet, "renew", "--json")
        assert renewed.code == 0, renewed.talk
        await until_connected(fleet, "prod")
        after = await status(fleet)
        refused = await call(fleet, "--identity", "lab", "renew")
        found = await call(fleet, "doctor", "--json")
    assert lost["connected"] is False
    assert refused.code == 3
    assert after["prod"]["serial"] != before["prod"]["serial"]
    assert (after["prod"]["problem"], after["lab"]["serial"]) == (None, before["lab"]["serial"])
    bad = {(each.get("identity"), each["name"]) for each in json.loads(found.output) if not each["ok"]}
    assert {whose for whose, _ in bad} == {"lab"}


async def test_keys_trust_and_folders_of_two_identities_have_nothing_in_common(fleet: LiveFleet) -> None:
    await enroll(fleet, "prod")
    await enroll(fleet, "lab", "--identity", "lab")
    state = fleet.folder / "state"
    own, lab = state / "current", state / "identities" / "lab" / "current"
    for name in ("key.pem", "cert.pem", "chain.pem", "trust.pem"):
        assert (own / name).read_text() != (lab / name).read_text()
    shown = await call(fleet, "--identity", "lab", "exec", "--", "env")
    assert "DEVICE_AGENT_DOMAIN=lab" in shown.output.decode()
    assert f"DEVICE_AGENT_CURRENT={lab}" in shown.output.decode()


async def test_an_identity_is_taken_only_of_the_domain_that_its_folder_names(fleet: LiveFleet) -> None:
    await enroll(fleet, "prod")
    with pytest.raises(AssertionError, match="wrong identity"):
        await enroll(fleet, "lab", "--identity", "elsewhere")
