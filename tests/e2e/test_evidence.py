"""What a running fleet makes of old certificates that are shown again, on each real broker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from device_agent.wire.replies import Confirmed, DoneAck, Issued
from device_agent.wire.requests import Confirm, Done, Renew
from fleet.model import Alarm, Device
from fleet.store.devices import load_device
from tests.desk import Unit
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, live, make_live_home
from tests.mqtt import MqttClient

PATIENCE_S = 30


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("embedded", id="embedded"),
        pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
    ],
)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("live") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def rotated(fleet: LiveFleet, device_id: str) -> tuple[LiveDevice, LiveDevice]:
    """Return a device with its first certificate, and as it goes on after it said that this is dropped."""
    old = await fleet.enrolled(device_id)
    new = LiveDevice(fleet=fleet, identity=old.identity, unit=Unit(device_id=device_id))
    async with old.connected() as client:
        request = Renew(id=uuid4().hex, csr=new.unit.csr, attempt=1)
        reply = await old.ask(request, client)
        assert isinstance(reply, Issued), reply
        new.issued = reply
        await client.disconnect()
    async with new.connected() as client:
        assert isinstance(await new.ask(Confirm(id="c"), client), Confirmed)
        assert isinstance(await new.ask(Done(id="d"), client), DoneAck)
        await client.disconnect()
    return old, new


async def knock(device: LiveDevice) -> int:
    """Try to connect, and return the code of CONNACK."""
    client = await MqttClient.open(device.tls(), port=device.fleet.context.endpoints.mqtt_port)
    try:
        return await client.connect(device.identity.name)
    finally:
        await client.close()


async def device_of(fleet: LiveFleet, device: LiveDevice) -> Device:
    found = await fleet.context.store.read(load_device, device.identity)
    assert found is not None
    return found


async def test_a_certificate_that_its_device_had_dropped_raises_the_alarm(fleet: LiveFleet) -> None:
    old, _ = await rotated(fleet, "copied")

    async with asyncio.timeout(PATIENCE_S):
        while (await device_of(fleet, old)).alarm is Alarm.NONE:
            assert await knock(old) != 0  # what it leaves behind is judged after it was turned away

    assert (await device_of(fleet, old)).alarm is Alarm.ROLLBACK_OR_CLONE
