"""A policy and a fact change while a device is connected: what counts for it next, in the order of events."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, live, make_live_home
from tests.mqtt import REFUSED_SUBSCRIPTION, MqttClient

DRIVERS = [
    pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
    pytest.param("embedded"),
]
POLICY = b"""\
[[allow]]
name = "own topics"
publish = ["devices/{domain}/{id}/#"]
subscribe = ["devices/{domain}/{id}/#"]

[[deny]]
name = "no raw data"
publish = ["devices/{domain}/{id}/raw/#"]

[[allow]]
name = "news of the tag"
when = { tag = "outdoor" }
subscribe = ["tags/{tag}/news"]
"""
OWN, NEWS = "devices/prod/d1/#", "tags/outdoor/news"


@pytest.fixture(params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> FleetHome:
    return make_live_home(tmp_path / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def post(fleet: LiveFleet, path: str, body: bytes, *, kind: str = "application/json") -> None:
    async with fleet.admin() as session:
        headers = {"Content-Type": kind}
        async with session.post(f"/api/v1/{path}", data=body, headers=headers) as response:
            assert response.status == HTTPStatus.OK, await response.text()


async def passes(device: MqttClient, *topics: str) -> list[str]:
    """Return which of its own messages come back to a device, up to one that always does."""
    for topic in (*topics, "devices/prod/d1/end"):
        await device.publish(topic, b"x")
    heard: list[str] = []
    while (message := await device.receive()).topic != "devices/prod/d1/end":
        heard.append(message.topic)
    return heard


async def test_what_changes_counts_for_the_connection_that_is_there(fleet: LiveFleet) -> None:
    device: LiveDevice = await fleet.enrolled("d1")
    raw, state = "devices/prod/d1/raw/1", "devices/prod/d1/state"
    async with device.connected() as client:
        assert await client.subscribe(OWN, NEWS) == [1, REFUSED_SUBSCRIPTION]
        assert await passes(client, raw, state) == [raw, state]

        await post(fleet, "access/apply", POLICY, kind="application/toml")
        assert await passes(client, raw, state) == [state]
        assert await client.subscribe(NEWS) == [REFUSED_SUBSCRIPTION]

        await post(fleet, "devices/marks", b'{"names": ["prod:d1"], "tags": ["outdoor"]}')
        assert await client.subscribe(NEWS) == [1]

        await post(fleet, "access/rollback", b'{"number": 0}')
        assert await passes(client, raw, state) == [raw, state]
        assert await client.subscribe(NEWS) == [REFUSED_SUBSCRIPTION]

        await post(fleet, "devices/prod/d1/suspend", b'{"reason": "lost"}')
        await client.wait_closed()
