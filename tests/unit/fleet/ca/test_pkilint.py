"""Every kind of certificate, list and status answer that we make passes a linter of somebody else's."""

import os
import sqlite3
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as x509_ocsp

from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.ca.crl import Scope, make_crl
from fleet.ca.founding import Founder
from fleet.ca.issuer import Issuer
from fleet.ca.ocsp import Good, Revoked, Standing, Unknown, Validity
from fleet.ca.ocsp_request import read_request
from fleet.ca.signers import make_authority_key
from fleet.ca.succession import Occasion, Roots, succeed
from fleet.core.goodkey import CLASSIC, POST_QUANTUM, CertifiedKey, KeyType
from fleet.core.names import Subject
from fleet.core.profile import (
    DEFAULT_PROFILES,
    OCSP_PROFILE,
    STATION_ISSUING_PROFILE,
    TIME_PROFILE,
    Profile,
    Usage,
    own_applicant,
    profiled_applicant,
)
from fleet.core.revocation import encode_entry, encode_removal
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.home import AuthorityFiles
from fleet.model import Purpose, RevocationReason
from fleet.ra.authority.initialise import Plan
from tests.homes import FAST, FleetHome, make_home, utc_now
from tests.pkilint_of import ACCEPTED, faults_of_answer, faults_of_certificate, faults_of_crl

CA_KEYS = {
    "p384": KeyType.P384,
    "rsa": KeyType.RSA,
    "q44": KeyType.ML_DSA_44,
    "q65": KeyType.ML_DSA_65,
}
DOMAINS = ("prod", *CA_KEYS)
DEVICE = DEFAULT_PROFILES[Purpose.DEVICE]
PROFILES = (
    DEVICE,
    replace(
        DEVICE,
        name="gateway",
        extended_key_usage=(Usage.CLIENT_AUTH, Usage.SERVER_AUTH),
        names=("{id}.gateways.example.org", "broker.{id}.{domain}.{fleet}"),
    ),
)
STATUS_URL = "http://pki.example.org"
NOW = utc_now()
LATER = NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    plan = Plan(
        fleet="acme",
        domains=DOMAINS,
        hosts=("fleet.example.org", "192.0.2.7", "2001:db8::7"),
        ca_keys=CA_KEYS,
    )
    return make_home(tmp_path_factory.mktemp("linted") / "home", plan=plan)


@pytest.fixture(scope="module")
def recorded(home: FleetHome) -> list[tuple[str, str, bytes]]:
    """Purpose, profile and DER of all that a new home has on record."""
    with sqlite3.connect(home.home.database) as database:
        return database.execute("SELECT purpose, profile, der FROM certificates").fetchall()


def serial() -> str:
    return new_serial(now=NOW, randomness=os.urandom(SERIAL_RANDOMNESS))


@cache
def key_of(key_type: KeyType) -> CertifiedKey:
    return make_authority_key(key_type).public_key()


def unaccepted(found: set[str]) -> set[str]:
    return found - ACCEPTED.keys()


def test_every_certificate_of_a_new_home_passes(recorded: list[tuple[str, str, bytes]]) -> None:
    faults = {(purpose, profile): faults_of_certificate(der) for purpose, profile, der in recorded}

    assert {kind: unaccepted(found) for kind, found in faults.items() if unaccepted(found)} == {}
    assert {purpose for purpose, _ in faults} == set(Purpose) - {Purpose.DEVICE, Purpose.BACKEND}
    assert {profile for purpose, profile in faults if purpose == Purpose.SIGNER} == {
        OCSP_PROFILE.name,
        TIME_PROFILE.name,
    }
    assert {profile for purpose, profile in faults if purpose == Purpose.AUTHORITY} == {
        "root",
        STATION_ISSUING_PROFILE.name,
    }


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
@pytest.mark.parametrize("device_id", ["line3-0042", "Line_3:0042"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_device_certificate_of_each_key_type_passes(
    home: FleetHome, domain: str, device_id: str, profile: Profile
) -> None:
    issuer = home.authority.issuer(Purpose.DEVICE, domain)
    types = POST_QUANTUM if domain.startswith("q") else CLASSIC
    subject = Subject(identity=Identity(domain=domain, device_id=device_id), fleet="acme")
    for key_type in sorted(types):
        template = replace(profile, key_types=types).template(
            profiled_applicant(profile, subject),
            key_of(key_type),
            now=NOW,
            issuer=issuer.facts(STATUS_URL),
        )
        leaf = issuer.issue(template, serial=serial())
        assert unaccepted(faults_of_certificate(leaf.der)) == set(), key_type


@pytest.mark.parametrize(
    ("purpose", "domain"),
    [
        (Purpose.CLAIM, "prod"),
        (Purpose.SERVICE, ""),
        (Purpose.OPERATOR, ""),
        (Purpose.STATION, ""),
    ],
)
def test_a_certificate_of_our_own_that_is_made_later_passes(
    home: FleetHome, purpose: Purpose, domain: str
) -> None:
    issuer = home.authority.issuer(purpose)
    template = DEFAULT_PROFILES[purpose].template(
        own_applicant("line3", purpose=purpose, fleet="acme", domain=domain),
        key_of(KeyType.P256),
        now=NOW,
        issuer=issuer.facts(STATUS_URL),
    )
    assert unaccepted(faults_of_certificate(issuer.issue(template, serial=serial()).der)) == set()


@pytest.mark.parametrize("key_type", [KeyType.P256, KeyType.P384, KeyType.RSA, KeyType.ML_DSA_65])
def test_what_two_roots_sign_for_each_other_passes(tmp_path: Path, key_type: KeyType) -> None:
    roots = Roots(old=root_of(tmp_path, "ca", key_type), new=root_of(tmp_path, "root-2", key_type))
    occasion = Occasion(
        fleet="acme", realm="prod", version=2, now=NOW, randomness=os.urandom, status_url=STATUS_URL
    )

    made = succeed(roots, occasion)
    for one in (made.link, made.back):
        assert unaccepted(faults_of_certificate(one.der)) == set()


def root_of(folder: Path, name: str, key_type: KeyType) -> Issuer:
    founder = Founder(
        fleet="acme",
        now=NOW,
        randomness=os.urandom,
        status_url=STATUS_URL,
        root_passphrase=Secret("a passphrase"),
        issuing_passphrase=Secret("a passphrase"),
        work_factor=FAST,
        ca_keys={"prod": key_type},
    )
    issuer, _ = founder.root(AuthorityFiles(folder=folder / name), realm="prod")
    return issuer


PART = "http://pki.example.org/crl/0a-128.crl"
SCOPES = {
    "plain": Scope(),
    "complete": Scope(leaves_only=True, freshest="http://pki.example.org/crl/0a-delta.crl"),
    "part": Scope(leaves_only=True, places=(PART,)),
    "delta": Scope(leaves_only=True, base_number=6),
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_kind_of_list_passes(home: FleetHome, domain: str, scope: Scope) -> None:
    issuer = home.authority.issuer(Purpose.DEVICE, domain)
    entries = [encode_entry(serial(), NOW, reason) for reason in RevocationReason]
    if scope.base_number is not None:
        entries.append(encode_removal(serial(), NOW))
    for listed in ((), entries):
        crl = make_crl(issuer, listed, number=7, this_update=NOW, next_update=LATER, scope=scope)
        assert unaccepted(faults_of_crl(crl)) == set()


def test_the_list_of_each_root_passes(home: FleetHome) -> None:
    lists = [root.crl for root in home.authority.roots if root.crl is not None]

    assert len(lists) == len(home.authority.roots)
    assert set().union(*(unaccepted(faults_of_crl(crl)) for crl in lists)) == set()


@pytest.mark.parametrize(
    "standing",
    [
        Good(),
        Good(archive_cutoff=NOW - timedelta(days=400)),
        Unknown(),
        *(Revoked(at=NOW, reason=reason) for reason in RevocationReason),
    ],
    ids=["good", "good long ago", "unknown", *(reason.name for reason in RevocationReason)],
)
@pytest.mark.parametrize("nonce", [None, b"n" * 32], ids=["plain", "nonce"])
def test_every_status_answer_passes(home: FleetHome, standing: Standing, nonce: bytes | None) -> None:
    for domain in DOMAINS:
        issuer = home.authority.issuer(Purpose.DEVICE, domain)
        digest = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key).digest
        name = hashes.Hash(hashes.SHA1())
        name.update(issuer.certificate.subject.public_bytes())
        builder = x509_ocsp.OCSPRequestBuilder().add_certificate_by_hash(
            name.finalize(), digest, int(serial(), 16), hashes.SHA1()
        )
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        request = read_request(builder.build().public_bytes(Encoding.DER))
        responder = home.authority.asked(request.questions[0])
        assert responder is not None
        validity = Validity(this_update=NOW, next_update=LATER)
        answer = responder.answer(request, (standing,), validity=validity)
        assert unaccepted(faults_of_answer(answer)) == set()


def test_the_linter_does_find_what_is_wrong(home: FleetHome) -> None:
    issuer = home.authority.issuer(Purpose.DEVICE, "prod").certificate
    key = make_authority_key(KeyType.P256)
    wrong = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(NOW)
        .not_valid_after(LATER)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("under_score.example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    assert unaccepted(faults_of_certificate(wrong.public_bytes(Encoding.DER)))


def test_nothing_is_accepted_that_is_not_found(recorded: list[tuple[str, str, bytes]]) -> None:
    found = set().union(*(faults_of_certificate(der) for _, _, der in recorded))

    assert found == ACCEPTED.keys()
    assert all(reason for reason in ACCEPTED.values())
