"""The agent's own walk up a path refuses all that the library refuses, and takes what a fleet issues."""

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.core.client_path import HAS_VERIFIER, PathError, by_own_rules, require_client_path

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
_SERIALS = itertools.count(0x60 << 120)
_KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(6)]
_P224, _RSA1024 = ec.generate_private_key(ec.SECP224R1()), rsa.generate_private_key(65537, 1024)
_RSA2048, _ED25519 = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a certificate is made with; as it stands, a CA that a fleet could have."""

    name: str
    key: PrivateKey
    ca: bool | None = True
    path_length: int | None = None
    signs: bool | None = True
    usage: x509.ObjectIdentifier | None = None
    begins: datetime = NOW - DAY
    ends: datetime = NOW + DAY
    others: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    digest: hashes.HashAlgorithm | None = field(default_factory=hashes.SHA256)


ROOT = Shape(name="root", key=_KEYS[0])
CA = Shape(name="issuing", key=_KEYS[1], path_length=0)
LEAF = Shape(
    name="d1", key=_KEYS[2], ca=None, signs=None, usage=ExtendedKeyUsageOID.CLIENT_AUTH,
    others=((x509.SubjectAlternativeName([x509.DNSName("d1.prod.acme")]), False),),
)  # fmt: skip
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
_NAMES = x509.NameConstraints([x509.DNSName("prod.acme")], None)


def made(shape: Shape, issuer: Shape) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(shape))
        .issuer_name(_name(issuer))
        .public_key(shape.key.public_key())
        .serial_number(next(_SERIALS))
        .not_valid_before(shape.begins)
        .not_valid_after(shape.ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(shape.key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    if shape.ca is not None:
        length = shape.path_length if shape.ca else None
        builder = builder.add_extension(x509.BasicConstraints(shape.ca, length), critical=True)
    if shape.signs is not None:
        flags = {"key_cert_sign": shape.signs, "crl_sign": True}
        rest = dict.fromkeys(
            (
                *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
                *("key_agreement", "encipher_only", "decipher_only"),
            ),
            False,
        )
        builder = builder.add_extension(x509.KeyUsage(**flags, **rest), critical=True)
    if shape.usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([shape.usage]), critical=False)
    for extension, critical in shape.others:
        builder = builder.add_extension(extension, critical=critical)
    is_edwards = isinstance(issuer.key, ed25519.Ed25519PrivateKey)
    return builder.sign(issuer.key, None if is_edwards else shape.digest)


def _name(shape: Shape) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shape.name)])


def path(*shapes: Shape) -> list[x509.Certificate]:
    """Return certificates, leaf first, the root last and signed by itself."""
    return [made(shape, shapes[min(at + 1, len(shapes) - 1)]) for at, shape in enumerate(shapes)]


def passes(chain: list[x509.Certificate], anchors: list[x509.Certificate]) -> bool:
    try:
        by_own_rules(chain, anchors, NOW)
    except PathError:
        return False
    return True


def passes_library(chain: list[x509.Certificate], anchors: list[x509.Certificate]) -> bool:
    try:
        require_client_path(chain, anchors, now=NOW)
    except PathError:
        return False
    return True


def garbled(shape: Shape, issuer: Shape) -> x509.Certificate:
    """Return a certificate whose name is no UTF-8; the library finds that out when it comes to the name."""
    before, name, after = made(shape, issuer).public_bytes(Encoding.DER).rpartition(shape.name.encode())
    return x509.load_der_x509_certificate(before + b"\xff" * len(name) + after)


def test_a_name_that_cannot_be_read_makes_no_path_and_no_other_error() -> None:
    chain, anchors = [garbled(CA, ROOT)], [made(ROOT, ROOT)]
    assert not passes_library(chain, anchors)
    assert not passes(chain, anchors)


GOOD = {
    "one issuing CA": (LEAF, CA, ROOT),
    "an RSA issuing CA": (LEAF, replace(CA, key=_RSA2048), ROOT),
    "an intermediate": (LEAF, CA, Shape(name="middle", key=_KEYS[3], path_length=1), ROOT),
    "a CA for clients": (LEAF, replace(CA, usage=ExtendedKeyUsageOID.CLIENT_AUTH), ROOT),
}
BAD = {
    "an issuer that is no CA": (LEAF, replace(CA, ca=False), ROOT),
    "an issuer that does not say what it is": (LEAF, replace(CA, ca=None), ROOT),
    "a CA below one that may have none": (LEAF, Shape(name="sub", key=_KEYS[3]), CA, ROOT),
    "a CA that must not sign certificates": (LEAF, replace(CA, signs=False), ROOT),
    "a CA for servers": (LEAF, replace(CA, usage=ExtendedKeyUsageOID.SERVER_AUTH), ROOT),
    "a CA that ended": (LEAF, replace(CA, begins=NOW - 2 * DAY, ends=NOW - DAY), ROOT),
    "a CA that has not begun": (LEAF, replace(CA, begins=NOW + DAY, ends=NOW + 2 * DAY), ROOT),
    "a root that ended": (LEAF, CA, replace(ROOT, begins=NOW - 2 * DAY, ends=NOW - DAY)),
    "a leaf that ended": (replace(LEAF, begins=NOW - 2 * DAY, ends=NOW - DAY), CA, ROOT),
    "a CA with an unknown critical extension": (LEAF, replace(CA, others=((_UNKNOWN, True),)), ROOT),
    "a leaf with an unknown critical extension": (
        replace(LEAF, others=(*LEAF.others, (_UNKNOWN, True))), CA, ROOT,
    ),
    "a CA on a weak curve": (LEAF, replace(CA, key=_P224), ROOT),
    "a CA with a short RSA key": (LEAF, replace(CA, key=_RSA1024), ROOT),
}  # fmt: skip


@pytest.mark.parametrize("shapes", GOOD.values(), ids=GOOD)
def test_a_path_that_a_fleet_makes_is_taken(shapes: tuple[Shape, ...]) -> None:
    *chain, root = path(*shapes)
    assert passes(chain, [root])
    assert passes_library(chain, [root])


@pytest.mark.parametrize("shapes", BAD.values(), ids=BAD)
def test_a_path_that_breaks_a_rule_is_refused(shapes: tuple[Shape, ...]) -> None:
    *chain, root = path(*shapes)
    assert not passes(chain, [root])
    assert not passes_library(chain, [root])


def test_constrained_names_are_refused_rather_than_overlooked() -> None:
    *chain, root = path(LEAF, replace(CA, others=((_NAMES, True),)), ROOT)
    assert not passes(chain, [root])
    *chain, root = path(LEAF, replace(CA, others=((_NAMES, False),)), ROOT)
    assert not passes(chain, [root])


def test_a_signature_by_a_namesake_is_refused() -> None:
    *chain, root = path(LEAF, CA, ROOT)
    namesake = made(replace(ROOT, key=_KEYS[5]), replace(ROOT, key=_KEYS[5]))
    assert passes(chain, [root])
    assert not passes(chain, [namesake])


def test_a_root_that_was_renewed_with_its_key_still_serves_beside_the_one_that_ended() -> None:
    *chain, root = path(LEAF, CA, ROOT)
    ended = made(replace(ROOT, begins=NOW - 2 * DAY, ends=NOW - DAY), ROOT)
    assert passes(chain, [ended, root])


shapes_of_ca = st.builds(
    Shape,
    name=st.sampled_from(["a", "b", "c"]),
    key=st.sampled_from([*_KEYS[:3], _P224, _RSA2048, _ED25519]),
    ca=st.sampled_from([True, True, True, False, None]),
    path_length=st.sampled_from([None, None, 0, 1]),
    signs=st.sampled_from([True, True, True, False, None]),
    usage=st.sampled_from([None, None, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
    begins=st.sampled_from([NOW - DAY, NOW - DAY, NOW - DAY, NOW, NOW + DAY]),
    others=st.sampled_from([(), (), ((_UNKNOWN, True),), ((_UNKNOWN, False),), ((_NAMES, True),)]),
    ends=st.sampled_from([NOW + 2 * DAY, NOW + 2 * DAY, NOW]),
).filter(lambda shape: shape.begins < shape.ends)


@pytest.mark.skipif(not HAS_VERIFIER, reason="cryptography before 43 has nothing to compare with")
@settings(max_examples=400)
@given(st.lists(shapes_of_ca, min_size=1, max_size=4), st.permutations(range(3)))
def test_whatever_is_taken_the_library_takes_too(above: list[Shape], order: list[int]) -> None:
    *chain, root = path(LEAF, *above)
    shuffled = [chain[0], *(chain[1:][at] for at in order if at + 1 < len(chain))]
    if passes(shuffled, [root]):
        assert passes_library(shuffled, [root])
