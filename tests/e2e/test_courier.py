"""A gateway's way to a real server: by HTTPS from elsewhere, with and without a station's certificate."""

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.errors import RefusedError, UnreachableError
from fleet.station.server.courier import HttpCourier, SignedRequest
from fleet.station.server.way import AdminSocket, HttpsServer
from tests.factory_floor import der, issue_leaf
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.pki import Authority

STRANGERS = issue_leaf(
    Authority.root("acme prod root"), ec.generate_private_key(ec.SECP256R1()).public_key(), "d1"
)


@pytest.fixture
def home(tmp_path: Path) -> FleetHome:
    return make_live_home(tmp_path / "home", driver="embedded")


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as fleet:
        yield fleet


async def test_a_gateway_asks_over_https_and_a_strangers_certificate_is_refused(fleet: LiveFleet) -> None:
    tls = ssl.create_default_context(cafile=str(fleet.home.home.server_trust))
    server = HttpsServer(host="localhost", port=fleet.context.endpoints.https_port, tls=tls)
    async with HttpCourier.opened(server) as courier:
        nonce = await courier.nonce()
        assert len(nonce) == 32
        request = json.dumps({"v": 1, "id": "7c1e", "type": "status"}).encode()
        signed = SignedRequest(request=request, certificate=der(STRANGERS), nonce=nonce, signature=b"\x30")
        with pytest.raises(RefusedError, match="none of this fleet's"):
            await courier.carry(signed)
        with pytest.raises(UnreachableError, match="not fresh"):
            await courier.carry(signed)


async def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    async with HttpCourier.opened(AdminSocket(path=tmp_path / "none", station="s")) as courier:
        with pytest.raises(UnreachableError, match="does not answer"):
            await courier.nonce()
