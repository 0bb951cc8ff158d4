"""A real agent process whose OpenSSL has the pkcs11-provider: it lives on Mosquitto, in each version of TLS.

As in `tests.contract.test_token_provider`, it is left out where there is no provider.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.core import lifecycle
from fleet.store.devices import load_device
from tests.contract.test_token_provider import configured, provider
from tests.e2e.test_agent_fleet import enrollment
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.tokens import SoftHsm

__all__ = ["provider"]

pytestmark = [pytest.mark.needs("softhsm2-util", "mosquitto", "gcc"), pytest.mark.provider]
AGENT = "import sys; from device_agent.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def home(provider: Path, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("provider") / "home", driver="mosquitto")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


@pytest.mark.parametrize("most", ["TLSv1.2", "TLSv1.3"])
async def test_a_device_lives_by_openssls_own_provider(
    most: str, fleet: LiveFleet, provider: Path, tmp_path: Path
) -> None:
    name = f"provided-{uuid.uuid4().hex[:8]}"
    asked = await enrollment(fleet, name)
    assert asked.code is not None
    (tmp_path / "code").write_text(asked.code.reveal())
    (tmp_path / "trust.pem").write_text(asked.trust_pem)
    with SoftHsm.at(tmp_path / "softhsm") as hsm:
        environment = {**os.environ, "OPENSSL_CONF": str(configured(tmp_path, provider, most=most))}

        async def run(*arguments: str) -> str:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", AGENT, "--state", str(tmp_path / "state"), *arguments),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            return (await process.communicate())[0].decode()

        enroll = {
            "--mqtt": f"{asked.host}:{asked.port}",
            "--device": name,
            "--code-file": str(tmp_path / "code"),
            "--trust": str(tmp_path / "trust.pem"),
            "--claim": f"{asked.claim.certificate},{asked.claim.key}",
            "--key": hsm.token().uri,
        }
        told = [await run("enroll", *(word for pair in enroll.items() for word in pair)), await run("renew")]
        doctor = await run("doctor")
    assert f"enrolled prod:{name}" in told[0]
    assert f"renewed prod:{name}" in told[1]
    assert "until the next start TLS signs by" not in "".join(told)
    assert "ok  tls: TLS signs in the token, by OpenSSL's pkcs11-provider in OpenSSL 3" in doctor
    device = await fleet.context.store.read(load_device, Identity(domain="prod", device_id=name))
    assert device is not None
    assert len(lifecycle.admitted(device)) == 1
