"""A server that was off too long, or restored from long ago, gets its own certificates before it starts."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from shutil import copytree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from device_agent.wire.identity import serial_hex
from fleet.home import Home, KeyPairFiles
from fleet.model import CertificateState, RevocationReason
from fleet.ra.own.own_at_start import make_good
from fleet.ra.own.own_pairs import names_of
from fleet.ra.people.batches import surroundings
from fleet.store.certificates import end_certificate, load_certificate
from tests.desk import Desk, at_desk
from tests.homes import FleetHome, authority_of, make_home


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
async def desk(made: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    home = Home(copytree(made.home.root, tmp_path / "home"))
    copy = FleetHome(home=home, authority=authority_of(home), made_at=made.made_at)
    async with at_desk(copy, tmp_path) as desk:
        desk.clock.now = made.made_at
        yield desk


def leaf(files: KeyPairFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def serials(desk: Desk) -> tuple[str, str]:
    home = desk.context.home
    return serial_hex(leaf(home.server).serial_number), serial_hex(leaf(home.service).serial_number)


async def start(desk: Desk, *, brought: bool = False) -> None:
    context = desk.context
    server = context.config.server
    if brought:
        server = replace(server, certificate=context.home.server.certificate)
    await make_good(surroundings(context), context.home, server, now=context.clock())


async def test_what_is_good_stays(desk: Desk) -> None:
    before = serials(desk)
    desk.clock.forward(timedelta(days=364))

    await start(desk)

    assert serials(desk) == before


async def test_what_is_past_its_end_is_replaced_with_a_key_that_fits(desk: Desk) -> None:
    before = serials(desk)
    names = names_of(leaf(desk.context.home.server))
    desk.clock.forward(timedelta(days=366))

    await start(desk)

    after = serials(desk)
    assert not set(before) & set(after)
    for files, serial in zip((desk.context.home.server, desk.context.home.service), after, strict=True):
        key = load_pem_private_key(files.key.read_bytes(), password=None)
        assert key.public_key() == leaf(files).public_key()
        record = await desk.context.store.read(load_certificate, serial)
        assert record is not None
        assert record.state is CertificateState.ACTIVE
    assert set(names_of(leaf(desk.context.home.server))) == set(names)


async def test_what_was_ended_is_replaced_and_nothing_else(desk: Desk) -> None:
    server, service = serials(desk)
    await desk.context.store.write(
        lambda tx, serial: end_certificate(
            tx,
            serial,
            state=CertificateState.SUPERSEDED,
            reason=RevocationReason.SUPERSEDED,
            at=desk.clock.now,
        ),
        service,
    )

    await start(desk)

    assert serials(desk)[0] == server
    assert serials(desk)[1] != service


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
async def test_what_cannot_be_read_is_replaced(desk: Desk, content: bytes | None) -> None:
    file = desk.context.home.service.certificate
    before = serials(desk)[1]
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    await start(desk)

    assert serials(desk)[1] != before


async def test_a_certificate_that_was_brought_is_not_ours_to_replace(desk: Desk) -> None:
    server, service = serials(desk)
    desk.clock.forward(timedelta(days=366))

    await start(desk, brought=True)

    assert serials(desk)[0] == server
    assert serials(desk)[1] != service
