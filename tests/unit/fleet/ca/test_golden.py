"""Golden bytes: what we certify today is, octet for octet, what we certified when the vectors were made."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from device_agent.wire.identity import Identity
from fleet.ca.building import builder_of
from fleet.ca.issuer import issuer_id_of
from fleet.ca.signers import make_key
from fleet.core.partition import PARTITIONS
from fleet.core.profile import (
    DEFAULT_PROFILES,
    ISSUING_PROFILE,
    OCSP_PROFILE,
    ROOT_PROFILE,
    TIME_PROFILE,
    Applicant,
    IssuerFacts,
    Profile,
    authority_applicant,
    device_applicant,
    own_applicant,
    server_applicant,
)
from fleet.model import Purpose

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "certificates.json").read_text())
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SERIAL = "41234567" + "89abcdef" * 3

KINDS: dict[str, tuple[Profile, Applicant]] = {
    "root": (ROOT_PROFILE, authority_applicant("acme prod root", fleet="acme")),
    "issuing": (ISSUING_PROFILE, authority_applicant("acme prod device issuing CA 2", fleet="acme")),
    "ocsp": (OCSP_PROFILE, authority_applicant("acme prod device ocsp 1", fleet="acme")),
    "time": (TIME_PROFILE, authority_applicant("acme prod device time 1", fleet="acme")),
    "device": (
        DEFAULT_PROFILES[Purpose.DEVICE],
        device_applicant(Identity(domain="prod", device_id="line3-0042"), fleet="acme"),
    ),
    "device with a hashed label": (
        DEFAULT_PROFILES[Purpose.DEVICE],
        device_applicant(Identity(domain="prod", device_id="Line_3:0042"), fleet="acme"),
    ),
    "server": (DEFAULT_PROFILES[Purpose.SERVER], server_applicant(["fleet.example.org", "192.0.2.7"])),
    "claim": (
        DEFAULT_PROFILES[Purpose.CLAIM],
        own_applicant("b1", purpose=Purpose.CLAIM, fleet="acme", domain="prod"),
    ),
    "operator": (
        DEFAULT_PROFILES[Purpose.OPERATOR],
        own_applicant("alice", purpose=Purpose.OPERATOR, fleet="acme"),
    ),
}


def to_be_signed(kind: str) -> str:
    profile, applicant = KINDS[kind]
    issuer = x509.load_pem_x509_certificate(VECTORS["issuer"].encode())
    facts = IssuerFacts(
        issuer_id=issuer_id_of(issuer),
        not_after=issuer.not_valid_after_utc,
        status_url="http://localhost:8080",
        partitions=0 if kind == "issuing" else PARTITIONS,
    )
    key = load_pem_public_key(VECTORS["key"].encode())
    is_root = kind == "root"
    template = profile.template(applicant, key, now=NOW, issuer=None if is_root else facts)
    builder = builder_of(template, serial=SERIAL, issuer=None if is_root else issuer)
    return builder.sign(make_key(), hashes.SHA256()).tbs_certificate_bytes.hex()


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_is_what_it_was(kind: str) -> None:
    assert to_be_signed(kind) == VECTORS["to_be_signed"][kind]


def test_every_vector_is_of_a_kind_that_we_make() -> None:
    assert set(VECTORS["to_be_signed"]) == set(KINDS)
