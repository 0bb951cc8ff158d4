"""An issuing CA signs what was linted, for its one purpose, and verifies what its signer gave back."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from fleet.ca.issuer import Issuer, issuer_id_of, self_sign
from fleet.ca.signers import KeySigner, PrivateKey, Signer, make_key, rehearsal_key
from fleet.core.goodkey import CertifiedKey, key_hash
from fleet.core.profile import (
    DEFAULT_PROFILES,
    ISSUING_PROFILE,
    ROOT_PROFILE,
    Template,
    authority_applicant,
    device_applicant,
)
from fleet.core.serial import new_serial
from fleet.errors import FleetError
from fleet.model import Purpose
from tests.homes import STATUS_URL, FleetHome, utc_now

KEY = make_key().public_key()


def serial() -> str:
    return new_serial(now=utc_now(), randomness=bytes(13))


def template_for(issuer: Issuer, device_id: str = "d1", key: CertifiedKey = KEY) -> Template:
    identity = Identity(domain=issuer.domain, device_id=device_id)
    return DEFAULT_PROFILES[Purpose.DEVICE].template(
        device_applicant(identity, fleet="acme"), key, now=utc_now(), issuer=issuer.facts(STATUS_URL)
    )


@pytest.fixture
def issuer(fleet_home: FleetHome) -> Issuer:
    return fleet_home.authority.issuer(Purpose.DEVICE, "prod")


def test_an_issued_certificate_is_signed_by_the_ca_and_told_with_its_facts(issuer: Issuer) -> None:
    number = serial()
    issued = issuer.issue(template_for(issuer), serial=number)
    certificate = x509.load_der_x509_certificate(issued.der)
    certificate.verify_directly_issued_by(issuer.certificate)
    assert x509.load_pem_x509_certificate(issued.pem.encode()) == certificate
    assert issued.serial == number == f"{certificate.serial_number:032x}"
    assert (issued.issuer_id, issued.anchor) == (issuer.issuer_id, issuer.anchor)
    assert issued.key_hash == key_hash(KEY)
    assert (issued.not_before, issued.not_after) == (
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


@settings(max_examples=50)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,63}", fullmatch=True))
def test_every_device_id_gets_a_certificate_that_says_it_exactly(
    fleet_home: FleetHome, device_id: str
) -> None:
    issuer = fleet_home.authority.issuer(Purpose.DEVICE, "prod")
    issued = issuer.issue(template_for(issuer, device_id), serial=serial())
    subject = x509.load_der_x509_certificate(issued.der).subject
    assert subject.rfc4514_string({}) == x509.Name.from_rfc4514_string(f"CN={device_id}").rfc4514_string({})


def test_the_signed_bytes_are_those_that_were_linted(issuer: Issuer) -> None:
    seen: list[bytes] = []

    class Recording:
        public_key = issuer.signer.public_key

        def sign(self, message: bytes) -> bytes:
            seen.append(message)
            return issuer.signer.sign(message)

    issued = replace(issuer, signer=Recording()).issue(template_for(issuer), serial=serial())
    assert seen == [x509.load_der_x509_certificate(issued.der).tbs_certificate_bytes]


def test_a_fault_that_the_lint_finds_never_reaches_the_key(issuer: Issuer) -> None:
    class Untouchable:
        public_key = issuer.signer.public_key

        def sign(self, message: bytes) -> bytes:
            raise AssertionError(f"asked to sign {len(message)} bytes")

    template = replace(template_for(issuer), not_after=issuer.not_after + timedelta(days=1))
    with pytest.raises(FleetError, match="was not signed"):
        replace(issuer, signer=Untouchable()).issue(template, serial=serial())


def test_a_signer_that_computes_wrongly_is_found_out(issuer: Issuer) -> None:
    with pytest.raises(FleetError, match="does not verify"):
        replace(issuer, signer=KeySigner(make_key())).issue(template_for(issuer), serial=serial())


@pytest.mark.parametrize("purpose", sorted(set(DEFAULT_PROFILES) - {Purpose.DEVICE}))
def test_a_ca_signs_for_no_other_purpose(issuer: Issuer, purpose: Purpose) -> None:
    template = replace(template_for(issuer), purpose=purpose)
    with pytest.raises(FleetError, match="not for the device CA"):
        issuer.issue(template, serial=serial())


def test_a_ca_signs_no_template_that_was_made_for_another_ca(fleet_home: FleetHome) -> None:
    prod, lab = (fleet_home.authority.issuer(Purpose.DEVICE, name) for name in ("prod", "lab"))
    with pytest.raises(FleetError, match="not for the device CA"):
        prod.issue(template_for(lab), serial=serial())


def test_an_issuing_ca_makes_no_authority(issuer: Issuer) -> None:
    template = ISSUING_PROFILE.template(
        authority_applicant("acme rogue", fleet="acme"), KEY, now=utc_now(), issuer=issuer.facts(STATUS_URL)
    )
    with pytest.raises(FleetError, match="not for the device CA"):
        issuer.issue(template, serial=serial())


def root_of(key: PrivateKey) -> x509.Certificate:
    template = ROOT_PROFILE.template(
        authority_applicant("acme prod root", fleet="acme"), key.public_key(), now=utc_now(), issuer=None
    )
    return self_sign(template, KeySigner(key), serial=serial(), fleet="acme", domain="prod")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ],
    ids=["p384", "ed25519", "rsa"],
)
def test_a_ca_key_may_be_of_another_type(key: PrivateKey) -> None:
    root = root_of(key)
    root.verify_directly_issued_by(root)
    signer: Signer = KeySigner(key)
    authority = Issuer(
        certificate=root,
        signer=signer,
        purpose=Purpose.AUTHORITY,
        fleet="acme",
        anchor="",
        rehearsal=rehearsal_key(signer.public_key),
    )
    template = ISSUING_PROFILE.template(
        authority_applicant("acme prod device issuing CA 1", fleet="acme"),
        KEY,
        now=utc_now(),
        issuer=authority.facts(STATUS_URL),
    )
    issued = authority.issue(template, serial=serial())
    x509.load_der_x509_certificate(issued.der).verify_directly_issued_by(root)
    assert issued.issuer_id == issuer_id_of(root)
