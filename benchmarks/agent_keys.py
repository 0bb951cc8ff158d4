"""Connections a second by kind of key: what a device's key store costs when it connects.

    python benchmarks/agent_keys.py       (needs Mosquitto; SoftHSM and swtpm for the rows of theirs)

Each kind's device enrolls at a real Mosquitto, in the place that `device-agent enroll --key` names. Then it
connects over and over, one after the other: a new TLS context, the key armed in it, TLS 1.3 with both sides'
certificates, CONNECT and CONNACK, DISCONNECT. The broker is a process of its own on the same machine, so its
half of each handshake is in the figure. Signatures: the same key's, over 32 bytes, one after the other.
"""

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment  # noqa: E402 - the path comes first
from device_agent.channels.mqtt_client import Connection, Session  # noqa: E402 - as above
from device_agent.config import Settings  # noqa: E402 - as above
from device_agent.core.record import Credential  # noqa: E402 - as above
from device_agent.core.stored import StoredRecord  # noqa: E402 - as above
from device_agent.keys.place import open_keys  # noqa: E402 - as above
from device_agent.keys.sealing import CREDENTIAL  # noqa: E402 - as above
from device_agent.ports import Signer  # noqa: E402 - as above
from device_agent.tls import client_context  # noqa: E402 - as above
from device_agent.wire.secret import Secret  # noqa: E402 - as above
from tests.broker_bench import Bench, running_broker, serving  # noqa: E402 - as above
from tests.provisioner import CODE, Provisioner  # noqa: E402 - as above

CONNECTIONS = 60
SIGNATURES = 200
_PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What was measured of one kind, each a second."""

    kind: str
    connections: float
    signatures: float


def places(folder: Path, stack: ExitStack) -> Iterator[tuple[str, str]]:
    """Give each kind with its place, as far as this machine has what it needs."""
    # As systemd would hand it over.
    os.environ["CREDENTIALS_DIRECTORY"] = str(folder)
    (folder / CREDENTIAL).write_text("a" * 44)
    yield "file, P-256", "file:"
    yield "file, P-256 encrypted", "sealed:p256"
    yield "file, RSA-2048", "file:rsa"
    yield "file, Ed25519", "file:ed25519"
    if shutil.which("softhsm2-util"):
        from tests.tokens import SoftHsm  # noqa: PLC0415 - needs what dev installs

        token = stack.enter_context(SoftHsm.at(folder / "softhsm")).token()
        yield "SoftHSM token, P-256", token.uri
        yield "SoftHSM token, RSA-2048", f"{token.uri}&key-type=rsa"
    if shutil.which("swtpm") and shutil.which("tpm2_ptool"):
        from tests.swtpm import running_tpm  # noqa: PLC0415 - as above
        from tests.tpm_tokens import tpm_token  # noqa: PLC0415 - as above

        (folder / "tpm-token").mkdir()
        yield "simulated TPM as a token, P-256", stack.enter_context(tpm_token(folder / "tpm-token")).uri
        tpm = stack.enter_context(running_tpm(folder / "tpm", certified=False))
        yield "simulated TPM itself, P-256", f"tpm:{tpm.place}"


async def measure(folder: Path, kind: str, place: str) -> Rates:
    server = Provisioner()
    async with running_broker(server.pki, folder / "broker") as bench, serving(bench, server):
        server.broker = replace(server.broker, port=bench.port)
        record = await enroll(bench, folder / "state", place)
        active = record.life.active
        if active is None:
            raise RuntimeError("the device did not enroll")
        signer = open_keys(folder / "state").open(active.key)
        await connect(record, active, signer)
        began = time.perf_counter()
        for _ in range(CONNECTIONS):
            await connect(record, active, signer)
        connections = CONNECTIONS / (time.perf_counter() - began)
        began = time.perf_counter()
        for number in range(SIGNATURES):
            signer.sign(number.to_bytes(32, "big"))
        return Rates(
            kind=kind, connections=connections, signatures=SIGNATURES / (time.perf_counter() - began)
        )


async def enroll(bench: Bench, state: Path, place: str) -> StoredRecord:
    certificate, key = bench.pki.claim().write(bench.folder, "claim")
    with Agent.opened(Settings(state=state, patience=timedelta(), key_place=place)) as agent:
        await agent.enroll(
            MqttEnrollment(
                host="localhost",
                port=bench.port,
                device_id="d1",
                trust_pem=(bench.folder / "servers.pem").read_text(),
                claim=ClaimFiles(certificate=certificate, key=key),
                code=Secret(CODE),
            )
        )
        return agent.record


async def connect(record: StoredRecord, active: Credential, signer: Signer) -> None:
    context = client_context(record.servers)
    if signer.arm(context, chain_pem=active.certificate + active.chain) is not None:
        raise RuntimeError("a sidecar would be measured, not this process")
    connection = Connection(
        active.broker.host,
        active.broker.port,
        client_id=active.broker.name,
        tls=context,
        session=Session.FRESH,
        keepalive=timedelta(seconds=30),
        timeout=_PATIENCE,
    )
    await connection.open()
    await connection.close()


def main() -> int:
    print(__doc__)
    logging.disable(logging.WARNING)
    print(f"{'':<34}{'connections/s':>14}{'signatures/s':>14}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        for number, (kind, place) in enumerate(places(Path(name), stack)):
            folder = Path(name, str(number))
            folder.mkdir()
            found = asyncio.run(measure(folder, kind, place))
            print(f"{found.kind:<34}{found.connections:>14.0f}{found.signatures:>14.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
