"""The agent and the whole service, on each broker: a life, a burst over rotations, a suspension."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment
from device_agent.config import Settings
from device_agent.errors import RefusedError
from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.core import lifecycle
from fleet.model import CertificateState, Device
from fleet.ra.people.claims import CodeOrder, create_codes
from fleet.store.devices import load_device
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, client_context
from tests.waiting import until

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]
MESSAGES = 300


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("agents") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


def settings(folder: Path) -> Settings:
    return Settings(state=folder / "state", first_wait=timedelta(milliseconds=200))


async def enrollment(fleet: LiveFleet, device_id: str) -> MqttEnrollment:
    identity = Identity(domain="prod", device_id=device_id)
    order = CodeOrder(identities=(identity,), actor="operator:test", lifetime=timedelta(days=1))
    (made,) = await create_codes(fleet.context, order)
    claim = fleet.home.home.public_claim("prod")
    return MqttEnrollment(
        host="localhost",
        port=fleet.context.endpoints.mqtt_bootstrap_port,
        device_id=device_id,
        trust_pem=fleet.home.home.server_trust.read_text(),
        claim=ClaimFiles(certificate=claim.certificate, key=claim.key),
        code=made.code,
    )


async def device_of(fleet: LiveFleet, agent: Agent) -> Device:
    device_id = agent.status().device_id
    assert device_id is not None
    device = await fleet.context.store.read(load_device, Identity(domain="prod", device_id=device_id))
    assert device is not None
    return device


@asynccontextmanager
async def backend(fleet: LiveFleet) -> AsyncIterator[MqttClient]:
    """Connect as one of the fleet's own services does."""
    service = fleet.home.home.service
    tls = client_context(trust=fleet.home.home.server_trust, certificate=service.certificate, key=service.key)
    client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_port)
    try:
        assert await client.connect("fleet-server.test") == 0
        yield client
    finally:
        await client.close()


async def test_a_device_lives_from_its_code_to_its_second_certificate(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        first = await agent.enroll_mqtt(await enrollment(fleet, "lives"))
        second = await agent.renew_once()
        device = await device_of(fleet, agent)
    assert [certificate.state for certificate in device.certificates] == [
        CertificateState.SUPERSEDED_ACKED,
        CertificateState.ACTIVE,
    ]
    assert first.serial != second.serial == device.current
    assert lifecycle.admitted(device) == {second.serial}


async def test_a_code_that_nobody_gave_out_is_refused_with_its_reason(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    asked = await enrollment(fleet, "thief")
    with Agent.opened(settings(tmp_path)) as agent, pytest.raises(RefusedError) as caught:
        await agent.enroll_mqtt(
            MqttEnrollment(
                host=asked.host,
                port=asked.port,
                device_id=asked.device_id,
                trust_pem=asked.trust_pem,
                claim=asked.claim,
                code=Secret("0000-0000-0000-0000"),
            )
        )
    assert caught.value.code is ProblemCode.CODE_INVALID


async def test_a_burst_in_both_directions_survives_renewals_to_the_last_message(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    down: set[bytes] = set()

    async def read(agent: Agent) -> None:
        async with agent.messages("down") as messages:
            async for message in messages:
                down.add(message.payload)

    async def send(client: MqttClient) -> None:
        for number in range(MESSAGES):
            await client.publish("devices/prod/burst/down", b"%d" % number)

    async def report(agent: Agent) -> None:
        for number in range(MESSAGES // 3):
            await agent.publish("up", b"%d" % number)

    with Agent.opened(settings(tmp_path)) as agent:
        await agent.enroll_mqtt(await enrollment(fleet, "burst"))
        async with backend(fleet) as client, agent.connected(), asyncio.TaskGroup() as group:
            await client.subscribe("devices/prod/burst/up")
            reading = group.create_task(read(agent))
            await agent.ready()
            sending = [group.create_task(send(client)), group.create_task(report(agent))]
            while not all(task.done() for task in sending):
                await agent.renew()
            await until(lambda: len(down) == MESSAGES)
            up: set[bytes] = set()
            while len(up) < MESSAGES // 3:
                up.add((await client.receive()).body)
            reading.cancel()
        device = await device_of(fleet, agent)
    assert len(lifecycle.admitted(device)) == 1
    assert len(device.certificates) > 1


async def test_a_suspended_device_learns_why_at_recovery_and_comes_back_by_itself(
    fleet: LiveFleet, tmp_path: Path
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        await agent.enroll_mqtt(await enrollment(fleet, "pausing"))
        async with agent.connected(), fleet.admin() as admin:
            await agent.ready()
            async with admin.post("/api/v1/devices/prod/pausing/suspend", json={}) as answer:
                assert answer.status == 200
            await until(lambda: agent.status().problem == "suspended")
            assert not agent.status().connected
            async with admin.post("/api/v1/devices/prod/pausing/resume", json={}) as answer:
                assert answer.status == 200
            await agent.ready()
            await until(lambda: agent.status().problem is None)
            assert agent.status().connected
