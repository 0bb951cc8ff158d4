"""Judges whether a device obeys a station: its certificate chain, its purpose, its signature.

It never believes a chain that ends nowhere: without an anchor of its own, the caller gives the anchors
that the station brought, and tells the person that they were taken on trust.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from device_agent.core.certificates import UNREADABLE
from device_agent.core.paths import require_path
from device_agent.errors import UnacceptableAnswerError
from device_agent.wire.identity import parse_domain

if TYPE_CHECKING:
    # cryptography 38 has no such name.
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

_PURPOSE_LABEL = "station"
_SAN_LABELS = 3
_UNREADABLE = (*UNREADABLE, LookupError, x509.ExtensionNotFound)
"""LookupError stands for a TLS feature that has no name, and for what is absent."""


class KeyMismatchError(UnacceptableAnswerError):
    """The certificate is for a key that this device does not have."""


def check_station(
    chain: Sequence[bytes],
    anchors: Sequence[bytes],
    *,
    signature: bytes,
    signed: bytes,
    now: datetime | None,
) -> str:
    """Return the name of the station that signed.

    `chain` is its certificate and the CAs above it, DER; `anchors` the roots to reach, DER. With `now`
    None the dates are not looked at: the device does not know the time.

    Raises:
        UnacceptableAnswerError: the chain, the purpose or the signature is not right.
    """
    path = [_load(octets) for octets in chain]
    if not path:
        raise UnacceptableAnswerError("the station showed no certificate")
    require_path(path, [_load(octets) for octets in anchors], now=now, whose="station")
    name = _station_name(path[0])
    _check_signature(path[0], signature, signed)
    return name


def check_key(certificate: bytes, csr: bytes) -> None:
    """Check that a certificate is for the key of a CSR, both DER.

    Raises:
        KeyMismatchError: it is for another one.
        UnacceptableAnswerError: the bytes are not what they should be.
    """
    try:
        request = x509.load_der_x509_csr(csr)
        own = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except _UNREADABLE as error:
        raise UnacceptableAnswerError("the request of this device cannot be read") from error
    key = _public_key(_load(certificate))
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != own:
        raise KeyMismatchError("the certificate is for another key")


def _load(octets: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(octets)
    except _UNREADABLE as error:
        raise UnacceptableAnswerError("what should be a certificate is none") from error


def _public_key(certificate: x509.Certificate) -> "CertificatePublicKeyTypes":
    try:
        return certificate.public_key()
    except _UNREADABLE as error:
        raise UnacceptableAnswerError("a certificate holds a key that cannot be read") from error


def _station_name(station: x509.Certificate) -> str:
    """Stations are told from servers and operators under the same root by `<label>.station.<fleet>`."""
    try:
        alternative = station.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = alternative.get_values_for_type(x509.DNSName)
        labels = names[0].split(".") if len(names) == 1 else []
        if len(labels) == _SAN_LABELS and labels[1] == _PURPOSE_LABEL and parse_domain(labels[2]):
            return str(station.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    except _UNREADABLE as error:
        raise UnacceptableAnswerError("the certificate that was shown is not a station's") from error
    raise UnacceptableAnswerError("the certificate that was shown is not a station's")


def _check_signature(station: x509.Certificate, signature: bytes, signed: bytes) -> None:
    key = _public_key(station)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UnacceptableAnswerError("the station's key is of a kind that the factory link does not use")
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise UnacceptableAnswerError("the station's signature is wrong") from error
