"""A command whose answer is lost on the way acts once, and still prints the answer."""

import asyncio
import http.client
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.cli.client import Client
from fleet.cli.remote import Remote
from fleet.errors import NotFoundError, RefusedError
from tests.api import OpenApi, open_api
from tests.homes import FleetHome, make_home


@pytest.fixture(scope="session")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("homes") / "home")


@pytest.fixture
async def opened(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[OpenApi]:
    async with open_api(fleet_home, tmp_path) as found:
        yield found


@dataclass(frozen=True, slots=True, kw_only=True)
class BadNetwork(Remote):
    """A server elsewhere, behind a network that loses the first answers whole."""

    door: Path
    lost: list[int]
    """How many answers are lost still."""
    asked: list[str] = field(default_factory=list)

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        return _Connection(self, timeout)


class _Connection(http.client.HTTPConnection):
    def __init__(self, network: BadNetwork, timeout: float) -> None:
        super().__init__("fleet", timeout=timeout)
        self._network = network

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._network.door))

    def getresponse(self) -> http.client.HTTPResponse:
        response = super().getresponse()
        self._network.asked.append(str(response.status))
        if self._network.lost[0]:
            self._network.lost[0] -= 1
            response.read()
            raise http.client.RemoteDisconnected("cut")
        return response


def network(tmp_path: Path, *, lost: int) -> BadNetwork:
    nothing = Path("none")
    return BadNetwork(
        server="https://fleet", certificate=nothing, key=nothing, door=tmp_path / "admin.sock", lost=[lost]
    )


async def test_codes_are_made_once_however_often_the_answer_was_lost(opened: OpenApi, tmp_path: Path) -> None:
    bad = network(tmp_path, lost=2)
    body = {"domain": "prod", "devices": ["d1"]}
    made = await asyncio.to_thread(lambda: Client(bad).post("claims", "codes", body=body))
    _, _, listed = await opened.local("GET", "claims/codes")
    items, codes = made["items"], listed["items"]
    assert isinstance(items, list)
    assert isinstance(codes, list)
    assert (len(bad.asked), len(codes)) == (3, 1)
    assert items[0]["code_id"] == codes[0]["code_id"]


async def test_what_was_refused_is_not_asked_again(opened: OpenApi, tmp_path: Path) -> None:
    bad = network(tmp_path, lost=0)
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(
            lambda: Client(bad).post("devices", body={"domain": "moon", "device_id": "d1"})
        )
    assert bad.asked == ["404"]


async def test_a_network_that_loses_every_answer_is_told_in_the_end(opened: OpenApi, tmp_path: Path) -> None:
    bad = network(tmp_path, lost=99)
    with pytest.raises(RefusedError, match="ended the connection"):
        await asyncio.to_thread(lambda: Client(bad).post("devices", "prod", "d1", "retire", body={}))
    assert len(bad.asked) == 4
