"""Requests: a public key with its proof comes out, or one clear refusal; never anything else."""

import base64
import random
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.ca.der import SEQUENCE, content, elements, signed, tlv
from fleet.core.csr import MAX_CSR_BYTES, Csr, read_csr
from fleet.core.goodkey import KeyType, key_hash
from fleet.errors import RefusedError

KEY = ec.generate_private_key(ec.SECP256R1())
IDENTITY = Identity(domain="prod", device_id="d1")
VECTORS = sorted(
    path for path in Path(cryptography_vectors.__file__).parent.glob("x509/requests/*") if path.is_file()
)
ACCEPTED_VECTORS = {
    "challenge-unstructured.pem",
    "challenge.pem",
    "ec_sha256.der",
    "ec_sha256.pem",
    "ec_sha256_old_header.pem",
    "rsa_sha256.der",
    "rsa_sha256.pem",
}
"""Everything else in the corpus is broken, signed with SHA-1, or of a weak or unusual key."""


def request(
    *names: str,
    dns: tuple[str, ...] = (),
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = KEY,
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if dns:
        names_asked = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns])
        builder = builder.add_extension(names_asked, critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def pem(der: bytes, label: str = "CERTIFICATE REQUEST") -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"


def refusal_of(data: str | bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        read_csr(data)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("key", "key_type"),
    [
        (KEY, KeyType.P256),
        (ec.generate_private_key(ec.SECP384R1()), KeyType.P384),
        (ed25519.Ed25519PrivateKey.generate(), KeyType.ED25519),
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), KeyType.RSA),
    ],
)
def test_a_request_gives_its_key_and_names(key: ec.EllipticCurvePrivateKey, key_type: KeyType) -> None:
    csr = read_csr(request("d1", dns=("d1.prod.acme",), key=key))
    assert csr == Csr(
        public_key=key.public_key(),
        key_type=key_type,
        key_hash=key_hash(key.public_key()),
        common_names=("d1",),
        dns_names=("d1.prod.acme",),
    )


@pytest.mark.parametrize("label", ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])
def test_pem_says_the_same_as_der(label: str) -> None:
    der = request("d1")
    assert read_csr(pem(der, label)) == read_csr(der)


def test_pem_with_crlf_line_ends_is_read() -> None:
    der = request("d1")
    assert read_csr(pem(der).replace("\n", "\r\n")) == read_csr(der)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name)
def test_each_request_of_the_corpus_is_accepted_or_refused_in_one_sentence(path: Path) -> None:
    if path.name in ACCEPTED_VECTORS:
        assert len(read_csr(path.read_bytes()).key_hash) == 64
    else:
        assert refusal_of(path.read_bytes()).code in {ProblemCode.BAD_CSR, ProblemCode.BAD_KEY}


def test_no_other_file_of_the_corpus_passes_for_a_request() -> None:
    others = Path(cryptography_vectors.__file__).parent.glob("x509/custom/**/*.pem")
    codes = {refusal_of(path.read_bytes()).code for path in others}
    assert codes <= {ProblemCode.BAD_CSR, ProblemCode.TOO_LARGE}


TWO_BLOCKS = pem(request("d1")) + pem(request("d2"))
DER = request("d1")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ProblemCode.BAD_CSR),
        ("", ProblemCode.BAD_CSR),
        (" \n", ProblemCode.BAD_CSR),
        (TWO_BLOCKS, ProblemCode.BAD_CSR),
        (pem(DER, "CERTIFICATE"), ProblemCode.BAD_CSR),
        ("hello\n" + pem(DER), ProblemCode.BAD_CSR),
        (pem(DER) + "hello", ProblemCode.BAD_CSR),
        (pem(DER).replace("MI", "!!", 1), ProblemCode.BAD_CSR),
        (pem(DER).replace("MI", "M", 1), ProblemCode.BAD_CSR),
        (pem(b""), ProblemCode.BAD_CSR),
        ("-----BEGIN CERTIFICATE REQUEST-----", ProblemCode.BAD_CSR),
        (pem(DER).replace("M", "М", 1), ProblemCode.BAD_CSR),  # a Cyrillic letter
        (DER[:-1], ProblemCode.BAD_CSR),
        (DER + b"\x00", ProblemCode.BAD_CSR),
        (b"\x30\x80" + DER, ProblemCode.BAD_CSR),
        (b"A" * (MAX_CSR_BYTES + 1), ProblemCode.TOO_LARGE),
        ("-----BEGIN " + "A" * MAX_CSR_BYTES, ProblemCode.TOO_LARGE),
    ],
)
def test_what_is_not_one_whole_request_is_refused(data: str | bytes, code: ProblemCode) -> None:
    assert refusal_of(data).code is code


def test_a_signature_by_another_key_proves_nothing() -> None:
    other = request("d1", key=ec.generate_private_key(ec.SECP256R1()))
    own = x509.load_der_x509_csr(DER).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    stolen = (
        x509.load_der_x509_csr(other).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    )
    refused = refusal_of(other.replace(stolen, own))
    assert refused.code is ProblemCode.BAD_CSR
    assert "possession" in str(refused)


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        ),
    ],
)  # fmt: skip
def test_a_request_to_become_a_ca_is_refused(extension: x509.ExtensionType) -> None:
    assert refusal_of(request("d1", extensions=(extension,))).code is ProblemCode.BAD_CSR


def test_a_request_that_says_that_it_is_no_ca_is_fine() -> None:
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    assert read_csr(request("d1", extensions=(constraints,))).common_names == ("d1",)


def test_a_weak_key_is_refused_as_a_bad_key() -> None:
    weak = request("d1", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    assert refusal_of(weak).code is ProblemCode.BAD_KEY


def test_a_key_type_that_is_not_allowed_is_refused_as_a_bad_key() -> None:
    with pytest.raises(RefusedError) as caught:
        read_csr(DER, allowed=frozenset({KeyType.ED25519}))
    assert caught.value.code is ProblemCode.BAD_KEY


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request("d1"),
        request("d1", dns=("d1.prod.acme",)),
        request("d1", dns=("D1.PROD.acme", "printer.local", "example.org")),
        request("d1", "d1"),
    ],
)
def test_the_own_name_or_none_is_fine_and_names_of_elsewhere_are_ignored(asked: bytes) -> None:
    read_csr(asked).require_identity(IDENTITY, fleet="acme")


@pytest.mark.parametrize(
    "asked",
    [
        request("d2"),
        request("d1", "d2"),
        request("prod:d1"),
        request("D1"),
        request("d1 "),
        request("dеvice"),  # a Cyrillic letter
        request("d1", dns=("d2.prod.acme",)),
        request("d1", dns=("d1.lab.acme",)),
        request("d1", dns=("d1.prod.acme", "*.prod.acme")),
        request("d1", dns=("d2.prod.acme.",)),
    ],
)
def test_another_identity_is_refused(asked: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read_csr(asked).require_identity(IDENTITY, fleet="acme")
    assert caught.value.code is ProblemCode.BAD_IDENTITY


def signed_again(der: bytes, mutate: Callable[[bytes], bytes]) -> bytes:
    """Return a request whose content was changed before it was signed, so that all of it is read."""
    tbs, algorithm, _ = elements(der)
    changed = tlv(SEQUENCE, mutate(content(tbs)))
    return signed(changed, algorithm=algorithm, signature=KEY.sign(changed, ec.ECDSA(hashes.SHA256())))


def test_an_extension_that_the_library_knows_no_name_for_is_refused() -> None:
    feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
    spoiled = signed_again(
        request("d1", extensions=(feature,)),
        lambda inside: inside.replace(b"\x30\x03\x02\x01\x05", b"\x30\x03\x02\x01\x06"),
    )
    assert refusal_of(spoiled).code is ProblemCode.BAD_CSR


def test_a_common_name_that_is_too_long_is_refused() -> None:
    good = request("d" * 64)
    spoiled = signed_again(
        good,
        lambda inside: (
            inside.replace(b"\x0c\x40" + b"d" * 64, b"\x0c\x41" + b"d" * 65)
            .replace(b"\x30\x49\x31\x47\x30\x45", b"\x30\x4a\x31\x48\x30\x46")
            .replace(b"\x30\x4b\x31\x49\x30\x47", b"\x30\x4c\x31\x4a\x30\x48")
        ),
    )
    assert spoiled != good
    assert refusal_of(spoiled).code is ProblemCode.BAD_CSR


def never_breaks(data: bytes) -> None:
    try:
        csr = read_csr(data)
    except RefusedError:
        return
    assert csr.key_hash == key_hash(csr.public_key)


@given(st.binary(max_size=512))
def test_random_bytes_never_break_the_reader(data: bytes) -> None:
    never_breaks(data)


def _flip(data: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(data))
    return data[:position] + bytes((data[position] ^ 1 << chance.randrange(8),)) + data[position + 1 :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.randrange(1, 16) :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + data[max(0, start - 16) : start] + data[start:]


def _splice(data: bytes, chance: random.Random) -> bytes:
    other = chance.choice(VECTORS).read_bytes()
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _cut, _repeat, _splice)


@settings(max_examples=150)
@given(
    st.sampled_from([*(path.read_bytes() for path in VECTORS), DER]),
    st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_mutated_requests_never_break_the_reader(
    data: bytes, mutations: list[Callable[[bytes, random.Random], bytes]], chance: random.Random
) -> None:
    for mutate in mutations:
        data = mutate(data, chance) or b"\x00"
    never_breaks(data)


RICH = request(
    "d1",
    dns=("d1.prod.acme", "printer.local"),
    extensions=(
        x509.BasicConstraints(ca=False, path_length=None),
        x509.TLSFeature([x509.TLSFeatureType.status_request]),
        x509.IssuerAlternativeName(
            [
                x509.DirectoryName(x509.Name([])),
                x509.RFC822Name("a@b"),
                x509.RegisteredID(NameOID.COUNTRY_NAME),
            ]
        ),
        x509.InhibitAnyPolicy(0),
        x509.NameConstraints([x509.IPAddress(ip_network("10.0.0.0/8"))], None),
    ),
)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_requests_mutated_before_they_were_signed_never_break_the_reader(
    mutations: list[Callable[[bytes, random.Random], bytes]], chance: random.Random
) -> None:
    def mutate(inside: bytes) -> bytes:
        for one in mutations:
            inside = one(inside, chance) or b"\x00"
        return inside

    never_breaks(signed_again(RICH, mutate))
