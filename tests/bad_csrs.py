"""Requests for certificates as they come from broken clients and from enemies: one table for every channel.

Each sample is DER, or bytes that are none. What `is_hopeless` must be refused wherever it is sent; by the
others nobody gets more than the certificate that he may have.
"""

import base64
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cryptography_vectors
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

REQUESTS = Path(cryptography_vectors.__file__).parent / "x509/requests"
OTHER_DEVICE = "somebody-else"
"""A registered device; samples that name it ask to be another."""
FLEET = "acme"
MUTATIONS = 150
_PEM_BLOCK = re.compile(rb"-----BEGIN [^-]+-----\s(?P<body>[^-]+)-----END", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request; `name` says what is wrong with it."""

    name: str
    csr: bytes
    is_hopeless: bool = False

    @property
    def pem(self) -> str:
        lines = base64.encodebytes(self.csr).decode()
        return f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}-----END CERTIFICATE REQUEST-----\n"

    def __str__(self) -> str:
        return self.name


@cache
def samples() -> tuple[Sample, ...]:
    """Return all: the vectors' requests, mutations of a good one, and what no client should ask for."""
    return (*_vectors(), *_mutations(), *_wishes())


def owned_key(csr: bytes) -> bytes | None:
    """Return the key of a request that proves its possession, as DER; None for what proves nothing."""
    try:
        request = x509.load_der_x509_csr(csr)
        if not request.is_signature_valid:
            return None
        return request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # noqa: BLE001 - whatever the library says to garbage, it proves nothing
        return None


def require_rightful(leaf: x509.Certificate, sample: Sample, *, device_id: str) -> None:
    """Fail unless a leaf is for the key that the request proved, and names whom the asker may be."""
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert not sample.is_hopeless, sample.name
    assert key == owned_key(sample.csr), sample.name
    assert [name.value for name in names] == [device_id], sample.name
    basic = [one.value for one in leaf.extensions if isinstance(one.value, x509.BasicConstraints)]
    assert not any(one.ca for one in basic), sample.name


def _vectors() -> Iterator[Sample]:
    for path in sorted(REQUESTS.glob("*")):
        content = path.read_bytes()
        block = _PEM_BLOCK.search(content)
        csr = content if block is None else base64.b64decode(b"".join(block["body"].split()))
        weak = any(word in path.name for word in ("sha1", "md4", "dsa", "invalid", "bad-version"))
        yield Sample(name=f"vector {path.name}", csr=csr, is_hopeless=weak)


def _mutations() -> Iterator[Sample]:
    """A good request with a few octets changed, cut out or doubled; the same ones in every run."""
    dice, good = random.Random(7030), _request()
    for number in range(MUTATIONS):
        octets = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(octets))
            match dice.randrange(3):
                case 0:
                    octets[place] ^= 1 << dice.randrange(8)
                case 1:
                    del octets[place : place + dice.randint(1, 8)]
                case _:
                    octets[place:place] = octets[place : place + dice.randint(1, 8)]
        yield Sample(name=f"mutation {number}", csr=bytes(octets), is_hopeless=bytes(octets) != good)


def _wishes() -> Iterator[Sample]:
    authority = x509.BasicConstraints(ca=True, path_length=None)
    signer = _key_usage(signs_certificates=True)
    many = x509.SubjectAlternativeName([x509.DNSName(f"{number}.example.org") for number in range(4000)])
    others = x509.SubjectAlternativeName([x509.DNSName(f"{OTHER_DEVICE}.prod.{FLEET}")])
    for name, csr in (
        ("empty", b""),
        ("a line end", b"\r\n"),
        ("a sequence of nothing", b"\x30\x00"),
        ("longer than it says", _request() + b"\x00"),
        ("shorter than it says", _request()[:-1]),
        ("zeros", bytes(4096)),
        ("nested without end", b"\x30\x80" * 2000),
        ("an announced gigabyte", b"\x30\x84\x40\x00\x00\x00"),
        ("wants to be a CA", _request(extension=authority)),
        ("wants to sign certificates", _request(extension=signer)),
        ("names another device", _request(common_name=OTHER_DEVICE)),
        ("names another device beside", _request(extension=others)),
        ("oversized", _request(extension=many)),
        ("weak key", _request(key=rsa.generate_private_key(public_exponent=65537, key_size=1024))),
        ("a curve that is not ours", _request(key=ec.generate_private_key(ec.SECP256K1()))),
    ):
        yield Sample(name=name, csr=csr, is_hopeless=True)


def _request(
    *,
    common_name: str = "",
    extension: x509.ExtensionType | None = None,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> bytes:
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
