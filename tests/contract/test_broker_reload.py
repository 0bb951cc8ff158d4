"""Certificates and roots are replaced while a broker runs: who is connected stays, who comes sees the new."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.errors import FleetError
from fleet.home import KeyPairFiles
from fleet.model import AllowlistChange, Purpose
from fleet.pair_files import pair_content, switch
from tests.broker_home import BrokerHome
from tests.broker_world import Driver, World, embedded, mosquitto, put_guard
from tests.mqtt import REFUSED_SUBSCRIPTION, MqttClient
from tests.pki import Pair, Pki, entry_of, key_pem, pem_of

DRIVERS = [
    pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
    pytest.param("embedded"),
]


@pytest.fixture(scope="module")
def guard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard")


@pytest.fixture(params=DRIVERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path, guard_folder: Path) -> AsyncIterator[World]:
    home = BrokerHome(tmp_path, Pki())
    async with AsyncExitStack() as stack:
        if request.param == "mosquitto":
            put_guard(home.files.folder, from_folder=guard_folder)
            broker: Driver = await stack.enter_async_context(mosquitto(home))
        else:
            broker = await stack.enter_async_context(embedded(home))
        world = await World.of(broker, home)
        stack.push_async_callback(world.close)
        yield world


def shown_by(client: MqttClient) -> bytes:
    """Return the SHA-256 of the server's certificate of a connection."""
    der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256())


def put(pair: Pair, files: KeyPairFiles) -> None:
    chain = b"".join(pem_of(one) for one in (pair.certificate, *pair.chain)).decode()
    switch(pair_content(files, key_pem=key_pem(pair.key), certificate_pem=chain), named=files.certificate)


def adopt(home: BrokerHome, *others: Pki) -> None:
    """Put other fleets' authorities, and the lists that they made, where the broker finds them."""
    adopted = home.files.adopted
    assert adopted is not None
    adopted.authorities.parent.mkdir(exist_ok=True)
    cas = [other.roots["prod"].certificate for other in others]
    cas += [other.devices["prod"].certificate for other in others]
    adopted.authorities.write_bytes(b"".join(pem_of(one) for one in cas))
    crls = [x509.load_der_x509_crl(other.devices["prod"].crl()) for other in others]
    adopted.crls.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in crls))


@pytest.mark.parametrize("bootstrap", [False, True])
async def test_a_new_server_certificate_is_shown_to_who_connects_and_drops_nobody(
    world: World, bootstrap: bool
) -> None:
    files = world.home.files
    who, name = (world.claim, "ab" * 32) if bootstrap else (world.device, "prod:d1")
    before = await world.let_in(who, name, bootstrap=bootstrap)
    fresh = world.home.pki.server()
    put(fresh, KeyPairFiles(certificate=files.certificate, key=files.key))

    await world.broker.reload_tls()

    await before.ping()
    after = await world.open(who, bootstrap=bootstrap)
    assert shown_by(after) == fresh.certificate.fingerprint(hashes.SHA256())
    assert shown_by(before) != shown_by(after)


async def test_the_fleets_own_service_shows_its_new_certificate_and_goes_on(world: World) -> None:
    files, fresh = world.home.files, world.home.pki.service()
    entry = entry_of(fresh, "fleet-server", purpose=Purpose.SERVICE)
    await world.broker.change(AllowlistChange(sequence=2, added=(entry,)))
    put(fresh, KeyPairFiles(certificate=files.service_certificate, key=files.service_key))
    device = await world.let_in(world.device, "prod:d1")

    await world.broker.reload_tls()
    await world.broker.change(AllowlistChange(sequence=3, removed=(world.home.service_entry,)))

    await device.ping()
    names = {session.name: session.serial for session in await world.broker.sessions()}
    assert names["prod:d1"] == world.device.serial
    assert names.get("fleet-server", fresh.serial) == fresh.serial


async def test_files_that_do_not_fit_together_leave_the_earlier_certificate_in_use(world: World) -> None:
    before = await world.let_in(world.device, "prod:d1")
    world.home.files.service_key.write_bytes(key_pem(world.home.pki.service().key))
    world.home.files.key.write_bytes(key_pem(world.home.pki.server().key))

    with pytest.raises(FleetError, match="cannot be used"):
        await world.broker.reload_tls()

    assert shown_by(await world.open(world.device)) == shown_by(before)


@pytest.mark.parametrize("serial", [1, 0x99 << 120, 0x7F << 152 | 5], ids=["one", "16 octets", "20 octets"])
async def test_devices_of_an_adopted_authority_come_in_by_the_list_alone_and_go_with_it(
    world: World, serial: int
) -> None:
    other = Pki(fleet="other")
    ours = await world.let_in(world.device, "prod:d1")
    theirs, stranger = other.devices["prod"].leaf("theirs", serial=serial), other.device("stranger")
    listed = entry_of(theirs, "prod:theirs")
    assert await world.is_refused(theirs, "prod:theirs")
    adopt(world.home, other)
    await world.broker.reload_tls()

    await world.broker.change(AllowlistChange(sequence=2, added=(listed,)))

    client = await world.let_in(theirs, "prod:theirs")
    assert await world.is_refused(stranger, "prod:stranger")
    own, of_another = (f"fleet/v1/prod/theirs/{one}/response" for one in (theirs.serial, stranger.serial))
    assert await client.subscribe(own) == [1]
    assert await client.subscribe(of_another) == [REFUSED_SUBSCRIPTION]
    ended = await world.broker.change(AllowlistChange(sequence=3, removed=(listed,)))
    await client.wait_closed()
    assert [cut.name for cut in ended] == ["prod:theirs"]
    await ours.ping()


async def test_another_leaf_with_a_listed_serial_number_is_refused_whoever_signed_it(world: World) -> None:
    other, third = Pki(fleet="other"), Pki(fleet="third")
    theirs = other.device("theirs")
    number = theirs.certificate.serial_number
    adopt(world.home, other, third)
    await world.broker.reload_tls()
    await world.broker.change(AllowlistChange(sequence=2, added=(entry_of(theirs, "prod:theirs"),)))

    for authority in (other.devices["prod"], third.devices["prod"], world.home.pki.devices["prod"]):
        forged = authority.leaf("theirs", serial=number)
        assert await world.is_refused(forged, "prod:theirs")
    await world.let_in(theirs, "prod:theirs")


async def test_a_device_of_an_adopted_authority_may_show_its_leaf_alone(world: World) -> None:
    other = Pki(fleet="other")
    theirs = other.device("theirs")
    adopt(world.home, other)
    await world.broker.reload_tls()
    await world.broker.change(AllowlistChange(sequence=2, added=(entry_of(theirs, "prod:theirs"),)))

    await world.let_in(Pair(key=theirs.key, certificate=theirs.certificate), "prod:theirs")


async def test_an_authority_that_is_adopted_no_longer_is_refused_by_tls_itself(world: World) -> None:
    other = Pki(fleet="other")
    theirs = other.device("theirs")
    adopt(world.home, other)
    await world.broker.reload_tls()
    await world.broker.change(AllowlistChange(sequence=2, added=(entry_of(theirs, "prod:theirs"),)))
    adopted = world.home.files.adopted
    assert adopted is not None

    for path in (adopted.authorities, adopted.crls):
        path.unlink()
    await world.broker.reload_tls()

    assert await world.is_refused(theirs, "prod:theirs")
