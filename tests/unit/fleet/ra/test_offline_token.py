"""A station whose keys are in a token: its own, and that of the CA by which it signs off line."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.ca.requesting import signer_csr
from fleet.cli.station_key import key_in_file, key_in_token
from fleet.errors import FleetError, NotFoundError, RefusedError
from fleet.home import KeyPairFiles
from fleet.ra.people.stations import add_station
from fleet.ra.requests.leases import LeaseOrder, grant_lease
from fleet.station.keeping.lease_files import LeaseFiles, make_authority_key, open_workshop, take_lease
from fleet.station.keeping.ledger import Ledger
from fleet.station.own.identity import StationIdentity
from tests.desk import Desk, station_order
from tests.offline import RULES, Bench, bench, station_at
from tests.tokens import SoftHsm, SoftToken


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    pytest.importorskip("pkcs11")
    with SoftHsm.at(tmp_path_factory.mktemp("softhsm")) as hsm:
        yield hsm.token()


def files_in(folder: Path) -> KeyPairFiles:
    return KeyPairFiles(certificate=folder / "line3.crt", key=folder / "line3.key")


async def leased(desk: Desk, ledger: Ledger, identity: StationIdentity, csr: str, key: Path) -> None:
    order = LeaseOrder(station="line3", batch="spring", count=5, days=3, csr=csr, actor="operator:test")
    _, signed = await grant_lease(desk.context, order)
    await take_lease(ledger, signed, identity=identity, files=LeaseFiles.beside(key))


@pytest.mark.needs("softhsm2-util")
async def test_a_station_with_both_keys_in_a_token_signs_its_journal_and_its_units(
    desk: Desk, token: SoftToken, tmp_path: Path
) -> None:
    files = files_in(tmp_path)
    with key_in_token("line3", files, token.uri) as key:
        new = await add_station(desk.context, station_order("line3", rules=RULES, csr=key.csr))
    files.certificate.write_text(new.own.certificate_pem)
    assert not files.key.exists()
    identity = StationIdentity.load(files.certificate, files.key)
    csr = make_authority_key(
        LeaseFiles.beside(files.key), "line3", token=token.uri, randomness=os.urandom(64)
    )
    station = replace(await station_at(desk, "line4"), identity=identity)
    async with bench(station, tmp_path) as at:
        await leased(desk, at.ledger, identity, csr, files.key)
        workshop = await open_workshop(at.ledger, identity, key=files.key, servers=())
        at.clerk._maker._workshop = workshop
        package = await at.made("hw-1")
        receipt = await at.sync()
    assert receipt.fault == ""
    assert package.serial in desk.broker.listed


@pytest.mark.needs("softhsm2-util")
def test_a_token_key_that_nothing_certifies_is_removed(token: SoftToken, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    for _ in range(2):
        with pytest.raises(RefusedError, match="no"), key_in_token("line9", files, token.uri):
            raise RefusedError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_key_in_a_file_is_closed_and_goes_where_nothing_certifies_it(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    with key_in_file("line3", files):
        assert files.key.stat().st_mode & 0o777 == 0o600
        with pytest.raises(RefusedError, match="is there already"), key_in_file("line3", files):
            pass
    with (
        pytest.raises(RefusedError, match="no"),
        key_in_file("line4", replace(files, key=tmp_path / "l4.key")),
    ):
        raise RefusedError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["line3.key"]


async def test_the_key_of_the_ca_is_encrypted_and_of_no_use_without_its_passphrase(
    desk: Desk, tmp_path: Path
) -> None:
    station = await station_at(desk)
    key = tmp_path / "line3.key"
    files = LeaseFiles.beside(key)
    csr = make_authority_key(files, "line3", token=None, randomness=os.urandom(64))
    assert b"ENCRYPTED PRIVATE KEY" in files.following.key.read_bytes()
    async with bench(station, tmp_path) as at:
        assert await open_workshop(at.ledger, station.identity, key=key, servers=()) is None
        await leased(desk, at.ledger, station.identity, csr, key)
        assert await open_workshop(at.ledger, station.identity, key=key, servers=()) is not None
        kept = files.passphrase.read_text()
        files.passphrase.unlink()
        with pytest.raises(NotFoundError, match="no passphrase"):
            await open_workshop(at.ledger, station.identity, key=key, servers=())
        files.passphrase.write_text("another\n")
        files.passphrase.chmod(0o600)
        with pytest.raises(FleetError, match="wrong passphrase"):
            await open_workshop(at.ledger, station.identity, key=key, servers=())
        files.passphrase.write_text(kept)
        await signs_on_with_the_next_key(desk, at, files)


async def signs_on_with_the_next_key(desk: Desk, at: Bench, files: LeaseFiles) -> None:
    """A key that is asked for leaves the one in use alone; its lease takes the place of the one before."""
    identity, key = at.station.identity, files.key.with_name("line3.key")
    before = await at.ledger.lease()
    csr = make_authority_key(files, "line3", token=None, randomness=os.urandom(64))
    workshop = await open_workshop(at.ledger, identity, key=key, servers=())
    assert workshop is not None
    assert before is not None
    desk.clock.forward(desk.clock() - desk.clock().replace(hour=1))
    await leased(desk, at.ledger, identity, csr, key)
    following = await open_workshop(at.ledger, identity, key=key, servers=())
    assert following is not None
    assert following.lease.lease != workshop.lease.lease
    with pytest.raises(RefusedError, match="is for another key"):
        await take_lease(at.ledger, before[0], identity=identity, files=files)


async def test_a_lease_for_a_request_of_somebody_else_is_not_taken(desk: Desk, tmp_path: Path) -> None:
    station = await station_at(desk)
    files = LeaseFiles.beside(tmp_path / "line3.key")
    make_authority_key(files, "line3", token=None, randomness=os.urandom(64))
    other = signer_csr(station.authority_key, "line3")
    async with bench(station, tmp_path) as at:
        with pytest.raises(RefusedError, match="is for another key"):
            await leased(desk, at.ledger, station.identity, other, tmp_path / "line3.key")
        assert await at.ledger.lease() is None
