"""What a server may and may not make this device activate."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_agent.core.acceptance import MAX_ANCHORS, Expected, Offer, Reason, accept, begin_of, offer_of
from device_agent.core.csr import csr_der, csr_pem
from device_agent.errors import UnacceptableAnswerError
from device_agent.wire.identity import Identity
from device_agent.wire.replies import BrokerAddress, Issued
from tests.pki import Authority, Pki, pem_of
from tests.provisioner import leaf_for

PKI = Pki(fleet="acme", domains=("prod",))
IDENTITY = Identity(domain="prod", device_id="d1")
SERIAL = f"{(0x40 << 120) + 7:032x}"
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
CSR = csr_pem(
    csr_der("d1", public_key_der=SPKI, sign=lambda message: KEY.sign(message, ec.ECDSA(hashes.SHA256())))
)
NOW = datetime.now(UTC).replace(microsecond=0)
ISSUER, ROOT = PKI.devices["prod"], PKI.roots["prod"]
EXPECTED = Expected(public_key_der=SPKI, device_id="d1")


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


HELD = replace(EXPECTED, domain="prod", fleet="acme", anchors=(der(ROOT.certificate),))


def leaf(issuer: Authority = ISSUER, **wrong: object) -> bytes:
    make: Callable[..., x509.Certificate] = leaf_for
    return der(make(CSR, issuer, IDENTITY, serial=SERIAL, **wrong))


def offer(leaf_der: bytes | None = None, **other: object) -> Offer:
    good = Offer(
        name="prod:d1",
        chain=(leaf_der or leaf(), der(ISSUER.certificate)),
        anchors=(der(ROOT.certificate),),
        serial=SERIAL,
    )
    change: Callable[..., Offer] = replace
    return change(good, **other)


def reason_of(wrong: Offer, expected: Expected = HELD, *, now: datetime = NOW) -> str:
    with pytest.raises(UnacceptableAnswerError) as caught:
        accept(wrong, expected, now=now)
    return str(caught.value)


def test_a_first_answer_is_accepted_and_its_domain_fleet_and_anchors_are_learned() -> None:
    accepted = accept(offer(), EXPECTED, now=NOW)
    assert (accepted.identity, accepted.fleet) == (IDENTITY, "acme")
    assert accepted.leaf.serial == SERIAL
    assert accepted.anchors == (der(ROOT.certificate),)


def test_a_later_answer_is_accepted_by_the_anchor_that_is_held() -> None:
    other = der(Authority.root("acme other root").certificate)
    assert accept(offer(anchors=(other,)), HELD, now=NOW).anchors == HELD.anchors


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"key": ec.generate_private_key(ec.SECP256R1()).public_key()}, Reason.WRONG_KEY),
        ({"common_name": "d2"}, Reason.WRONG_IDENTITY),
        ({"alternative": "d2.prod.acme"}, Reason.WRONG_IDENTITY),
        ({"alternative": "d1.lab.acme"}, Reason.WRONG_IDENTITY),
        ({"alternative": "d1.prod.other"}, Reason.WRONG_IDENTITY),
        ({"alternative": "d1.prod.acme.example"}, Reason.WRONG_IDENTITY),
        ({"is_ca": True}, Reason.IS_CA),
        ({"usage": ExtendedKeyUsageOID.SERVER_AUTH}, Reason.WRONG_USAGE),
        ({"usage": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}, Reason.WRONG_USAGE),
        ({"not_before": NOW - timedelta(days=2), "lifetime": timedelta(days=1)}, Reason.EXPIRED),
        ({"not_before": NOW + timedelta(hours=1)}, Reason.NOT_YET_VALID),
        ({"issuer": Pki(fleet="acme", domains=("prod",)).devices["prod"]}, Reason.UNTRUSTED),
        (
            {"extra": x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")},
            Reason.UNTRUSTED,
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_leaf_that_breaks_a_rule_is_refused_by_its_name(wrong: dict[str, object], reason: Reason) -> None:
    make: Callable[..., bytes] = leaf
    assert f"acceptable, {reason}:" in reason_of(offer(make(**wrong)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"serial": "0" * 32}, Reason.WRONG_SERIAL),
        ({"name": "lab:d1"}, Reason.WRONG_IDENTITY),
        ({"name": "prod:d2"}, Reason.WRONG_IDENTITY),
        ({"name": "prod"}, Reason.WRONG_IDENTITY),
        ({"chain": ()}, Reason.TOO_LARGE),
        ({"chain": (leaf(),)}, Reason.UNTRUSTED),
        ({"chain": (leaf(), *[der(ISSUER.certificate)] * 4)}, Reason.TOO_LARGE),
        ({"anchors": (der(ROOT.certificate),) * (MAX_ANCHORS + 1)}, Reason.TOO_LARGE),
        ({"chain": (b"\x30\x00", der(ISSUER.certificate))}, Reason.UNREADABLE),
        ({"chain": (b"\x30" * 9000, der(ISSUER.certificate))}, Reason.UNREADABLE),
        ({"chain": (leaf(), b"junk")}, Reason.UNREADABLE),
    ],
    ids=[
        *(
            "serial",
            "domain",
            "device",
            "no device",
            "no chain",
            "leaf as its own CA",
            "long chain",
            "many anchors",
        ),
        *("no leaf", "endless leaf", "no issuing CA"),
    ],
)
def test_an_answer_that_does_not_fit_its_leaf_is_refused(wrong: dict[str, object], reason: Reason) -> None:
    change: Callable[..., Offer] = offer
    assert f"acceptable, {reason}:" in reason_of(change(**wrong))


def test_an_issuing_ca_that_may_not_have_another_below_it_is_held_to_that() -> None:
    below = ISSUER.issuing("acme prod sub")
    chain = (leaf(below), der(below.certificate), der(ISSUER.certificate))
    assert f"acceptable, {Reason.UNTRUSTED}:" in reason_of(offer(chain=chain))


def test_a_first_answer_whose_chain_does_not_reach_its_own_anchors_is_refused() -> None:
    anchors = (der(Authority.root("acme prod root").certificate),)
    assert f"acceptable, {Reason.UNTRUSTED}:" in reason_of(offer(anchors=anchors), EXPECTED)


def test_a_first_answer_without_an_anchor_is_refused() -> None:
    assert f"acceptable, {Reason.UNTRUSTED}:" in reason_of(offer(anchors=()), EXPECTED)


def linked(
    new: Authority, *, signer: Authority = ROOT, key: ec.EllipticCurvePrivateKey | None = None
) -> bytes:
    """Return a certificate for the new root's name and key, signed by another root."""
    public_key = (key or new.key).public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.certificate.subject)
        .issuer_name(signer.certificate.subject)
        .public_key(public_key)
        .serial_number(99)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    return der(builder.sign(signer.key, hashes.SHA256()))


def rolled(new: Authority, link: bytes | None) -> Offer:
    issuing = new.issuing("acme prod devices 2")
    chain = (leaf(issuing), der(issuing.certificate))
    links = () if link is None else (link,)
    return offer(chain=chain, anchors=(der(new.certificate), der(ROOT.certificate)), links=links)


def test_a_new_root_is_believed_when_a_held_one_has_signed_for_its_key() -> None:
    new = Authority.root("acme prod root 2")
    accepted = accept(rolled(new, linked(new)), HELD, now=NOW)
    assert accepted.anchors == (der(ROOT.certificate), der(new.certificate))


def test_a_new_root_without_a_link_is_refused() -> None:
    assert f"acceptable, {Reason.UNTRUSTED}:" in reason_of(rolled(Authority.root("acme prod root 2"), None))


def test_a_link_that_a_stranger_signed_is_refused() -> None:
    new, stranger = Authority.root("acme prod root 2"), Authority.root("acme prod root")
    assert f"acceptable, {Reason.UNTRUSTED}:" in reason_of(rolled(new, linked(new, signer=stranger)))


def test_a_link_for_another_key_than_the_new_roots_is_refused() -> None:
    new = Authority.root("acme prod root 2")
    other = ec.generate_private_key(ec.SECP256R1())
    assert f"acceptable, {Reason.UNTRUSTED}:" in reason_of(rolled(new, linked(new, key=other)))


def issued(**wrong: object) -> Issued:
    good = Issued(
        id="1",
        serial=SERIAL,
        certificate=pem_of(leaf_for(CSR, ISSUER, IDENTITY, serial=SERIAL)).decode(),
        chain=pem_of(ISSUER.certificate).decode(),
        trust=pem_of(ROOT.certificate).decode(),
        renew_after=NOW,
        broker=BrokerAddress(host="localhost", port=8883, name="prod:d1"),
    )
    change: Callable[..., Issued] = replace
    return change(good, **wrong)


def test_a_reply_becomes_an_offer_that_is_accepted() -> None:
    assert accept(offer_of(issued()), HELD, now=NOW).leaf.serial == SERIAL


@pytest.mark.parametrize("member", ["certificate", "chain", "trust", "link"])
@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem_of(ISSUER.certificate).decode() * 9,
    ],
    ids=["cut off", "a key", "nine"],
)
def test_a_reply_with_pem_that_is_wrong_or_too_much_is_refused(member: str, text: str) -> None:
    change: Callable[..., Issued] = issued
    with pytest.raises(UnacceptableAnswerError, match=Reason.UNREADABLE):
        offer_of(change(**{member: text}))


def test_a_leaf_that_a_station_made_off_line_is_of_the_same_device_and_fleet() -> None:
    accepted = accept(offer(leaf(alternative="d1.line3.prod.acme")), HELD, now=NOW)
    assert (accepted.identity, accepted.fleet) == (IDENTITY, "acme")


@pytest.mark.parametrize(
    "name",
    [
        "d2.line3.prod.acme",
        "d1.line3.lab.acme",
        "d1.prod",
        "d1.a.line3.prod.acme",
        "line3.prod.acme",
        "prod.acme",
    ],
)
def test_a_leaf_under_a_name_of_somebody_else_is_refused(name: str) -> None:
    assert Reason.WRONG_IDENTITY in reason_of(offer(leaf(alternative=name)))


def test_a_leaf_made_off_line_for_another_fleet_is_refused() -> None:
    assert Reason.WRONG_IDENTITY in reason_of(offer(leaf(alternative="d1.line3.prod.other")))


def test_an_offer_begins_with_the_youngest_of_its_certificates() -> None:
    """A CA that was made a minute ago signs leaves that are backdated by more."""
    old = leaf(not_before=ISSUER.certificate.not_valid_before_utc - timedelta(days=3))
    assert begin_of(offer(old)) == ISSUER.certificate.not_valid_before_utc
    young = leaf(not_before=ISSUER.certificate.not_valid_before_utc + timedelta(days=9))
    assert begin_of(offer(young)) == x509.load_der_x509_certificate(young).not_valid_before_utc
    assert begin_of(offer(young, chain=(young, b"junk"))) == begin_of(offer(young, chain=(young,)))
