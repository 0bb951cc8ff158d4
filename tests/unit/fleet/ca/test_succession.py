"""One root follows another: what both sign, and that devices and path validation follow it."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.core.certificates import read_bundle
from device_agent.core.trust import Holding, follow, judge
from device_agent.wire.secret import Secret
from fleet.ca.founding import Founder
from fleet.ca.issuer import Issuer, fingerprint_of
from fleet.ca.signers import KeySigner, make_key
from fleet.ca.succession import Occasion, Roots, Succession, require_signed, succeed
from fleet.errors import BadInputError, RefusedError
from fleet.home import AuthorityFiles
from fleet.model import Purpose
from tests.homes import FAST
from tests.pki import Authority, utc_now

NOW = utc_now()
STATUS_URL = "http://localhost:8080"


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def founded(folder: Path, *, years_ago: float) -> Issuer:
    secret = Secret("a passphrase")
    founder = Founder(
        fleet="acme",
        now=NOW - timedelta(days=365 * years_ago),
        randomness=os.urandom,
        status_url=STATUS_URL,
        root_passphrase=secret,
        issuing_passphrase=secret,
        work_factor=FAST,
    )
    folder.mkdir(parents=True, exist_ok=True)
    issuer, _ = founder.root(AuthorityFiles(folder=folder), realm="prod")
    return issuer


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    folder = tmp_path_factory.mktemp("roots") / "prod"
    return Roots(old=founded(folder, years_ago=2), new=founded(folder / "root-2", years_ago=0))


@pytest.fixture(scope="module")
def occasion() -> Occasion:
    return Occasion(
        fleet="acme", realm="prod", version=3, now=NOW, randomness=os.urandom, status_url=STATUS_URL
    )


@pytest.fixture(scope="module")
def succession(roots: Roots, occasion: Occasion) -> Succession:
    return succeed(roots, occasion)


def test_the_second_root_of_a_realm_has_a_name_of_its_own(roots: Roots) -> None:
    assert roots.old.certificate.subject != roots.new.certificate.subject


def test_each_root_vouches_for_the_key_of_the_other(roots: Roots, succession: Succession) -> None:
    link, back = (x509.load_der_x509_certificate(one.der) for one in (succession.link, succession.back))
    link.verify_directly_issued_by(roots.old.certificate)
    back.verify_directly_issued_by(roots.new.certificate)
    assert (link.subject, link.public_key()) == (roots.new.certificate.subject, roots.new.public_key)
    assert (back.subject, back.public_key()) == (roots.old.certificate.subject, roots.old.public_key)


def test_a_device_is_led_on_and_never_back(roots: Roots, succession: Succession) -> None:
    old, new = der(roots.old.certificate), der(roots.new.certificate)
    assert follow([succession.link.der], [old], now=NOW) == (succession.link.der,)
    assert follow([succession.back.der], [new], now=NOW) == ()


def test_a_device_takes_the_bundle_with_both_and_then_that_of_the_new_one_alone(
    roots: Roots, succession: Succession
) -> None:
    old, new = der(roots.old.certificate), der(roots.new.certificate)
    holding = Holding(fleet="acme", realm="prod", anchors=(old,))
    both = judge(succession.both, holding, now=NOW)
    assert both is not None
    assert both.anchors == (old, new)
    alone = judge(succession.new_alone, replace(holding, anchors=both.anchors, version=3), now=NOW)
    assert alone is not None
    assert (alone.version, alone.anchors, alone.dropped) == (4, (new,), (old,))
    assert judge(succession.new_alone, holding, now=NOW) is not None, "a device that slept through it all"


def test_anchors_beside_the_roots_stay_in_both_bundles(roots: Roots, occasion: Occasion) -> None:
    public = Authority.root("a public root").certificate
    made = succeed(roots, replace(occasion, beside=(public,)))
    for bundle in (made.both, made.new_alone):
        assert read_bundle(bundle.anchors, most=8)[0] == der(public)


def test_the_server_takes_no_bundle_that_the_new_root_did_not_sign(
    roots: Roots, succession: Succession
) -> None:
    require_signed(succession.both, fleet="acme", signer=roots.new.certificate)
    wrong = (
        (succession.both, "other", roots.new),
        (succession.both, "acme", roots.old),
        (replace(succession.both, version=9), "acme", roots.new),
        (replace(succession.both, anchors="-----BEGIN"), "acme", roots.new),
    )
    for bundle, fleet, signer in wrong:
        with pytest.raises(BadInputError):
            require_signed(bundle, fleet=fleet, signer=signer.certificate)


def test_a_root_that_is_not_of_our_making_is_not_followed(roots: Roots, occasion: Occasion) -> None:
    theirs = Authority.root("somebody else's root, C=ZZ")
    key = make_key()
    name = x509.Name.from_rfc4514_string("CN=theirs,O=theirs,C=ZZ")
    foreign = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=9))
    )
    for extension in theirs.certificate.extensions:
        if extension.oid != x509.SubjectKeyIdentifier.oid:
            foreign = foreign.add_extension(extension.value, critical=extension.critical)
    foreign = foreign.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    certificate = foreign.sign(
        key, x509.load_der_x509_certificate(der(theirs.certificate)).signature_hash_algorithm
    )
    old = Issuer(
        certificate=certificate,
        signer=KeySigner(key),
        purpose=Purpose.AUTHORITY,
        fleet="acme",
        anchor=fingerprint_of(certificate),
        rehearsal=make_key(),
    )
    with pytest.raises(RefusedError, match="somebody else's"):
        succeed(Roots(old=old, new=roots.new), occasion)
