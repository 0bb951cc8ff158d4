"""The device at the end of a factory line, over its real record and keys."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.clock import GivenClock
from device_agent.core.certificates import anchor_id
from device_agent.core.csr import csr_pem
from device_agent.core.lifecycle import State, state_of
from device_agent.core.station_unit import Installation
from device_agent.errors import NotEnrolledError, UnacceptableAnswerError
from device_agent.keys.software import FileKeyStore
from device_agent.life import Life
from device_agent.store import open_store
from device_agent.unit import SerialUnit
from device_agent.wire.factory import LinkState
from device_agent.wire.identity import Identity
from device_agent.wire.objects import Configuration, ObjectHashes
from device_agent.wire.replies import BrokerAddress
from tests.pki import Authority, Pki
from tests.provisioner import leaf_for

PKI = Pki(domains=("prod",))
NOW = datetime.now(UTC).replace(microsecond=0)
ROOTS = tuple(PKI.roots[name].certificate.public_bytes(Encoding.DER) for name in ("prod", "fleet"))


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    numbers = count(1)
    with open_store(tmp_path / "state") as store:
        keys = FileKeyStore(tmp_path / "state" / "keys")
        yield Life(store, keys, clock=GivenClock(lambda: NOW), new_key_name=lambda: f"k-{next(numbers)}")


@pytest.fixture
def unit(life: Life) -> SerialUnit:
    return SerialUnit(life, hardware_id="hw-1", model="m")


def installation(
    csr: bytes, *, number: int = 1, device_id: str = "d1", issuer: Authority | None = None
) -> Installation:
    issuer = issuer or PKI.devices["prod"]
    serial = f"{(0x40 << 120) + number:032x}"
    leaf = leaf_for(csr_pem(csr), issuer, Identity(domain="prod", device_id=device_id), serial=serial)
    return Installation(
        chain=(leaf.public_bytes(Encoding.DER), issuer.certificate.public_bytes(Encoding.DER)),
        anchors=ROOTS,
        configuration=Configuration(
            hardware_id="hw-1",
            device_id=device_id,
            serial=serial,
            renew_after=NOW + timedelta(days=60),
            broker=BrokerAddress(host="localhost", port=8883, name=f"prod:{device_id}"),
            servers=(anchor_id(ROOTS[1]),),
        ),
        hashes=ObjectHashes(chain=b"1" * 32, anchors=b"2" * 32, configuration=bytes([number]) * 32),
        station="s1",
        tofu=False,
    )


def test_a_unit_goes_from_fresh_to_active_and_holds_what_was_installed(life: Life, unit: SerialUnit) -> None:
    states = [unit.report().state]
    wanted = installation(unit.request("d1"))
    states.append(unit.report().state)
    unit.install(wanted)
    states.append(unit.report().state)
    unit.commit()
    states.append(unit.report().state)
    assert states == [LinkState.FRESH, LinkState.KEYED, LinkState.PENDING, LinkState.ACTIVE]
    report = unit.report()
    assert report.fingerprint == hashlib.sha256(wanted.chain[0]).digest()
    assert (report.hashes, report.device_id) == (wanted.hashes, "d1")
    assert [anchor.fingerprint for anchor in life.record.servers] == [anchor_id(ROOTS[1])]
    assert [anchor.fingerprint for anchor in life.record.life.anchors] == [anchor_id(ROOTS[0])]
    assert state_of(life.record.life) is State.SETTLING


def test_the_same_id_gets_the_same_request_and_another_id_another_key(unit: SerialUnit) -> None:
    first = unit.request("d1")
    assert unit.request("d1") == first
    other = x509.load_der_x509_csr(unit.request("d2"))
    assert other.public_key() != x509.load_der_x509_csr(first).public_key()


def test_a_proof_is_signed_with_the_key_that_was_installed(life: Life, unit: SerialUnit) -> None:
    unit.install(installation(unit.request("d1")))
    unit.commit()
    unit.install(installation(unit.request("d1"), number=2))
    key = x509.load_der_x509_csr(life.record.csr).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(unit.sign(b"m"), b"m", ec.ECDSA(hashes.SHA256()))
    assert life.active.key == "k-1"


def test_a_fresh_unit_has_nothing_to_sign_with(unit: SerialUnit) -> None:
    with pytest.raises(NotEnrolledError):
        unit.sign(b"m")


def test_the_active_slot_lives_until_commit(life: Life, unit: SerialUnit) -> None:
    unit.install(installation(unit.request("d1")))
    unit.commit()
    active = life.active
    unit.install(installation(unit.request("d1"), number=2))
    assert life.active == active
    unit.commit()
    assert life.active.serial > active.serial


def test_installing_the_same_certificate_again_takes_the_new_hashes(unit: SerialUnit) -> None:
    csr = unit.request("d1")
    unit.install(installation(csr, number=1))
    again = installation(csr, number=1)
    unit.install(again)
    assert unit.report().hashes == again.hashes


def test_an_older_certificate_than_the_installed_one_is_refused(unit: SerialUnit) -> None:
    csr = unit.request("d1")
    unit.install(installation(csr, number=2))
    with pytest.raises(UnacceptableAnswerError, match="older"):
        unit.install(installation(csr, number=1))


def test_what_is_not_acceptable_leaves_the_unit_as_it_was(life: Life, unit: SerialUnit) -> None:
    csr = unit.request("d1")
    before = life.record
    stranger = Pki(domains=("prod",)).devices["prod"]
    for wrong in (installation(csr, issuer=stranger), installation(csr, device_id="d2")):
        with pytest.raises(UnacceptableAnswerError):
            unit.install(wrong)
    assert life.record == before


def test_an_enrollment_that_a_station_left_does_not_stop_renewals(life: Life, unit: SerialUnit) -> None:
    unit.install(installation(unit.request("d1")))
    unit.commit()
    active = life.active
    unit.request("d2")
    assert state_of(life.record.life) is State.ENROLLING
    life.leave_station()
    assert (state_of(life.record.life), life.active, life.device_id) == (State.SETTLING, active, "d1")


def test_a_key_whose_request_was_not_kept_is_made_anew(life: Life, unit: SerialUnit, tmp_path: Path) -> None:
    """A cut between the key file and the record."""
    FileKeyStore(tmp_path / "state" / "keys").create("k-0")
    csr = x509.load_der_x509_csr(unit.request("d1"))
    spki = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert life.signer("k-1").public_key_der == spki
    assert FileKeyStore(tmp_path / "state" / "keys").names() == ("k-1",)
