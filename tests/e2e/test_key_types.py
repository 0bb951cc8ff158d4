"""Every classic key type, from the request to a session at each broker: P-256, P-384, Ed25519, RSA."""

from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from device_agent.agent import Agent
from device_agent.keys.place import open_keys
from device_agent.keys.software import KeyKind
from fleet.ca.signers import ClassicPrivateKey
from fleet.core.goodkey import CLASSIC, KeyType, check_key
from fleet.model import Purpose
from tests.e2e.test_agent_fleet import device_of, enrollment, settings
from tests.est import EstUnit, basic, leaf
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, client_context

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]


def key_of(key_type: KeyType) -> ClassicPrivateKey:
    match key_type:
        case KeyType.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module", params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("types") / "home", driver=request.param)


@pytest.fixture
async def fleet(home: FleetHome, tmp_path: Path) -> AsyncIterator[LiveFleet]:
    async with live(home, tmp_path) as running:
        yield running


async def test_a_device_with_a_key_of_each_type_enrolls_and_is_let_in(fleet: LiveFleet) -> None:
    for key_type in sorted(CLASSIC):
        unit = EstUnit(device_id=f"of-{key_type}", key=key_of(key_type))
        device, proof = await fleet.proof_for(unit.device_id)
        assert proof.code is not None
        headers = {
            "Content-Type": "application/pkcs10",
            "Authorization": basic(unit.device_id, proof.code.reveal()),
        }
        async with (
            fleet.https() as session,
            session.post("/.well-known/est/prod/simpleenroll", data=unit.csr, headers=headers) as response,
        ):
            assert response.status == HTTPStatus.OK, await response.read()
            held = leaf(await response.read())
        certificate, key = fleet.folder / f"{key_type}.crt", fleet.folder / f"{key_type}.key"
        chain = fleet.context.authority.issuer(Purpose.DEVICE, "prod").chain_pem
        certificate.write_text(held.public_bytes(Encoding.PEM).decode() + chain)
        key.write_bytes(unit.key_pem)
        tls = client_context(trust=fleet.home.home.server_trust, certificate=certificate, key=key)
        client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_port)
        try:
            assert await client.connect(device.identity.name) == 0, key_type
        finally:
            await client.close()


@pytest.mark.parametrize("home", ["embedded"], indirect=True)
@pytest.mark.parametrize("kind", KeyKind)
async def test_an_agent_lives_with_keys_of_each_kind_that_it_makes(
    fleet: LiveFleet, tmp_path: Path, kind: KeyKind
) -> None:
    with Agent.opened(replace(settings(tmp_path), key_place=f"file:{kind}")) as agent:
        first = await agent.enroll_mqtt(await enrollment(fleet, f"agent-{kind}"))
        async with agent.connected():
            await agent.ready()
            second = await agent.renew()
        device = await device_of(fleet, agent)
    assert first.serial != second.serial == device.current
    assert second.key is not None
    key = load_der_public_key(open_keys(tmp_path / "state").open(second.key).public_key_der)
    assert check_key(key).value == kind.value
