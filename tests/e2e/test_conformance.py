"""The conformance kit with our own agent: over a real pty, and over TLS at its own broker."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment
from device_agent.config import Settings
from device_agent.errors import AgentError
from device_agent.wire.secret import Secret
from fleet.cli.conformance.check import Outcome, Result
from fleet.cli.conformance.mqtt_client import Client
from fleet.cli.conformance.mqtt_course import check_mqtt
from fleet.cli.conformance.mqtt_server import Server, serving
from fleet.cli.conformance.serial_course import check_serial
from fleet.cli.conformance.workshop import Workshop
from fleet.station.link.cable import Cable
from fleet.station.link.port import opened

WORKSHOP = Workshop.opened()
CODE = "ABCD-EFGH-JKMN-PQRS"


def kit(server: Server, *, patience: float = 20.0) -> Client:
    return Client(
        server=server,
        workshop=WORKSHOP,
        device_id="d1",
        code=CODE,
        host="localhost",
        patience=patience,
        waits=lambda _what: None,
    )


def outcomes(results: tuple[Result, ...]) -> dict[str, str]:
    return {result.name: result.detail for result in results if result.outcome is not Outcome.PASS}


async def test_our_agent_conforms_on_a_serial_line(tmp_path: Path) -> None:
    with Cable() as cable, opened(cable.station_port, baud=115200) as line:
        device = asyncio.ensure_future(_plugged(tmp_path, cable.device_port))
        results = await check_serial(line, workshop=WORKSHOP, device_id="d1", report=lambda _result: None)
        device.cancel()
        await asyncio.gather(device, return_exceptions=True)
    assert outcomes(results) == {}


async def _plugged(folder: Path, port: str) -> None:
    """Enroll again and again, as a unit that is plugged in again."""
    with Agent.opened(Settings(state=folder / "state", hardware_id="hw-1")) as agent:
        while True:
            await agent.enroll_serial(port)


async def test_our_agent_conforms_over_mqtt(tmp_path: Path) -> None:
    async with serving(WORKSHOP, host="localhost", port=0) as server:
        device = asyncio.ensure_future(_living(tmp_path, server.port))
        results = await check_mqtt(kit(server), report=lambda _result: None)
        device.cancel()
        await asyncio.gather(device, return_exceptions=True)
    assert outcomes(results) == {}


async def _living(folder: Path, port: int) -> None:
    claim = WORKSHOP.claim()
    certificate, key = folder / "claim.crt", folder / "claim.key"
    certificate.write_text(claim.pem + WORKSHOP.servers.pem)
    key.write_text(claim.key_pem)
    key.chmod(0o600)
    settings = Settings(state=folder / "state", first_wait=timedelta(milliseconds=50))
    enrollment = MqttEnrollment(
        host="localhost",
        port=port,
        device_id="d1",
        trust_pem=WORKSHOP.servers_root.pem,
        claim=ClaimFiles(certificate=certificate, key=key),
        code=Secret(CODE),
    )
    with Agent.opened(settings) as agent:
        # An answer that it cannot use ends the command; whoever runs it does so again.
        while not agent.status().enrolled:
            with suppress(AgentError):
                await agent.enroll_mqtt(enrollment)
        async with agent.connected():
            await asyncio.Event().wait()
