"""What the certificate of a CA says, in words: its key, its bounds, and where its status is told.

It reads and judges nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_USES = {
    oid: name.lower().replace("_", " ") for name, oid in vars(ExtendedKeyUsageOID).items() if name.isupper()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The parts of a CA's certificate that operators compare."""

    key: str
    """Such as `RSA 3072`, `EC secp256r1`, `ML-DSA-65`."""
    serial: str
    """Hex."""
    signature: str
    """The name or the OID of the algorithm."""
    path_length: int | None
    """How many CAs may stand below it (RFC 5280 4.2.1.9); None: any number."""
    lists_at: tuple[str, ...]
    """URLs of the list that names it (RFC 5280 4.2.1.13)."""
    status_at: tuple[str, ...]
    """URLs of OCSP, and of its issuer's certificate (RFC 5280 4.2.2.1)."""
    uses: tuple[str, ...]
    """Extended key usages."""
    constraints: tuple[str, ...]
    """Names that it may or may not certify (RFC 5280 4.2.1.10)."""


def describe(certificate: x509.Certificate) -> Described:
    """Read the certificate of a CA."""
    basic = _find(certificate, x509.BasicConstraints)
    lists = _find(certificate, x509.CRLDistributionPoints)
    access = _find(certificate, x509.AuthorityInformationAccess)
    uses = _find(certificate, x509.ExtendedKeyUsage)
    names = _find(certificate, x509.NameConstraints)
    return Described(
        key=_key(certificate),
        serial=f"{certificate.serial_number:032x}",
        signature=_signature(certificate),
        path_length=None if basic is None else basic.path_length,
        lists_at=tuple(str(name.value) for point in lists or () for name in point.full_name or ()),
        status_at=tuple(_access(one) for one in access or ()),
        uses=tuple(_USES.get(one, one.dotted_string) for one in uses or ()),
        constraints=() if names is None else tuple(_bounds(names)),
    )


def _find(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.curve.name}"
        case key:
            return type(key).__name__.strip("_").removesuffix("PublicKey")


def _signature(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    return oid.dotted_string if oid._name == "Unknown OID" else oid._name


def _access(one: x509.AccessDescription) -> str:
    kind = "OCSP" if one.access_method == AuthorityInformationAccessOID.OCSP else "issuer"
    return f"{kind} {one.access_location.value}"


def _bounds(names: x509.NameConstraints) -> Iterator[str]:
    for word, subtrees in (("only", names.permitted_subtrees), ("not", names.excluded_subtrees)):
        yield from (f"{word} {one.value}" for one in subtrees or ())
