"""Other programs have their data signed by the device's key over a socket of its own."""

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.agent import Agent
from device_agent.control import Told, ask
from device_agent.errors import ExitCode, StateError
from tests.device import Table

DATA = b'{"temperature":21.5}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "lent"
    folder.mkdir()
    return folder / "signer.sock"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(folder=tmp_path)


@pytest.fixture
async def agent(table: Table, path: Path) -> AsyncIterator[Agent]:
    await table.enroll()
    settings = replace(table.settings, signer=path)
    with Agent.opened(settings, ways=table.network, clock=table.clock) as opened:
        async with opened.connected():
            await opened.ready()
            yield opened


async def asked(path: Path, act: str, **members: object) -> Told:
    told = await asyncio.to_thread(ask, path, act, members)
    assert told is not None
    return told


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def verify(path: Path) -> str:
    identity = await asked(path, "identity")
    signed = await asked(path, "sign", message=base64_of(DATA))
    key = x509.load_pem_x509_certificate(str(identity.members["certificate"]).encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(base64.b64decode(str(signed.members["signature"])), DATA, ec.ECDSA(hashes.SHA256()))
    assert signed.members["serial"] == identity.members["serial"]
    return str(signed.members["serial"])


async def test_a_signature_is_the_certificate_s_before_and_after_a_renewal(agent: Agent, path: Path) -> None:
    first = await verify(path)
    await agent.renew()
    assert await verify(path) != first


async def test_the_socket_is_its_owner_s_alone_and_does_nothing_but_sign(agent: Agent, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for act in ("renew", "status", "trust"):
        assert (await asked(path, act)).error == "no such act"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (base64_of(b"fleet-recover-v1\0acme"), ExitCode.REFUSED),
        (base64_of(b"x" * (32 * 1024 + 1)), ExitCode.BAD_INPUT),
        ("not base64!", ExitCode.BAD_INPUT),
        (7, ExitCode.BAD_INPUT),
    ],
)
async def test_what_must_not_be_signed_is_refused(
    agent: Agent, path: Path, message: object, code: ExitCode
) -> None:
    told = await asked(path, "sign", message=message)
    assert (told.exit_code, told.members) == (code, {})


async def test_a_digest_is_not_signed(agent: Agent, path: Path) -> None:
    """It could be that of anything."""
    assert (await asked(path, "sign", digest="00" * 32)).exit_code is ExitCode.BAD_INPUT


async def test_a_flood_is_slowed_down(agent: Agent, path: Path) -> None:
    told = [await asked(path, "sign", message=base64_of(DATA)) for _ in range(120)]
    refused = [one for one in told if one.exit_code is ExitCode.REFUSED]
    assert refused
    assert refused[0].hint == "at most 10 a second"


async def test_a_file_that_is_no_socket_is_left_alone(table: Table, path: Path) -> None:
    await table.enroll()
    path.write_text("precious")
    settings = replace(table.settings, signer=path)
    with (
        Agent.opened(settings, ways=table.network, clock=table.clock) as opened,
        pytest.raises(StateError, match="signer"),
    ):
        await opened.run()
    assert path.read_text() == "precious"
