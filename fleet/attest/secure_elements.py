"""Reads a manifest of secure elements: each entry a JWS (RFC 7515, ES256), as Microchip gives with its parts.

What is in an entry counts only after the manifest's signer was found to have signed it. Keys that it holds
encrypted (`encryptedSecretKeySet`) are for other readers, and passed over.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.wire.fields import Fields
from device_agent.wire.problems import MalformedMessageError
from fleet.core.things import Thing, certificate_thing, key_thing, public_key_der
from fleet.core.unreadable import UNREADABLE

_LONGEST_ENTRY = 64 * 1024
_LONGEST_HEADER = 1024
_LONGEST_ID = 64
_MOST_KEYS = 16
_MOST_CERTIFICATES = 4
_NUMBER_OCTETS = 32


class UnfitEntryError(ValueError):
    """An entry that is not what it should be; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureElement:
    """What an entry says of a part: its unique id, and the keys and certificates that it comes with."""

    unique_id: str
    model: str
    things: tuple[Thing, ...]


class Signer:
    """Who signs a manifest, by his certificate."""

    def __init__(self, certificate: x509.Certificate, *, at: datetime) -> None:
        """Take a certificate that is in its time.

        Raises:
            UnfitEntryError: it is not, or its key cannot make ES256 signatures.
        """
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise UnfitEntryError("the signer's certificate has no P-256 key")
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            raise UnfitEntryError(
                f"the signer's certificate is in force from {certificate.not_valid_before_utc:%Y-%m-%d}"
                f" to {certificate.not_valid_after_utc:%Y-%m-%d} only"
            )
        self._key = key
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        self._thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        self.source = f"signer {digest.hex()}"
        """How the signer is named on file."""

    def payload(self, entry: Fields) -> bytes:
        """Return what the signer has signed; raises `UnfitEntryError`."""
        if not {"protected", "payload", "signature"} <= entry.names():
            raise UnfitEntryError("it is not signed: it has no protected, payload and signature")
        protected = entry.text("protected", longest=_LONGEST_HEADER)
        payload = entry.text("payload", longest=_LONGEST_ENTRY)
        self._require_header(_members(_octets(protected)))
        signature = _octets(entry.text("signature", longest=128))
        if len(signature) != 2 * _NUMBER_OCTETS:
            raise UnfitEntryError("its signature is none of ES256 (RFC 7518 3.4)")
        r, s = (int.from_bytes(half) for half in (signature[:_NUMBER_OCTETS], signature[_NUMBER_OCTETS:]))
        try:
            # RFC 7515 5.2: over the two parts as they were sent.
            self._key.verify(
                encode_dss_signature(r, s), f"{protected}.{payload}".encode(), ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature as error:
            raise UnfitEntryError("its signature is not the signer's") from error
        return _octets(payload)

    def _require_header(self, header: Fields) -> None:
        # RFC 8725 3.1: the algorithm is ours to choose, never the message's.
        if header.text("alg", longest=16) != "ES256":
            raise UnfitEntryError("its signature is of another algorithm than ES256")
        if "crit" in header:
            raise UnfitEntryError("its header has extensions that must be understood (RFC 7515 4.1.11)")
        if header.text("x5t#S256", longest=64) != self._thumbprint:
            raise UnfitEntryError("it names another signer's certificate")


def read_element(entry: Fields, signer: Signer) -> SecureElement:
    """Return the part that a signed entry speaks of.

    Raises:
        UnfitEntryError: it is not signed by the signer, or does not hold what it should.
    """
    try:
        said = _members(signer.payload(entry))
        unique_id = said.text("uniqueId", longest=_LONGEST_ID)
        model = said.text("model", longest=_LONGEST_ID) if "model" in said else ""
        keys = said.object("publicKeySet").objects("keys", most=_MOST_KEYS)
        things = [thing for key in keys for thing in _things(key)]
    except MalformedMessageError as error:
        raise UnfitEntryError(str(error)) from error
    if not things:
        raise UnfitEntryError("it has no public key")
    return SecureElement(unique_id=unique_id, model=model, things=tuple(dict.fromkeys(things)))


def _things(key: Fields) -> Sequence[Thing]:
    """Return a public key (RFC 7517), and the certificate that goes with it, if there is one."""
    if key.text("kty", longest=8) != "EC" or key.text("crv", longest=8) != "P-256":
        raise UnfitEntryError("a key of it is not on P-256")
    x, y = (_octets(key.text(name, longest=64)) for name in ("x", "y"))
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1())
        der = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError as error:
        raise UnfitEntryError("a key of it is no point of P-256") from error
    if "x5c" not in key:
        return (key_thing(der),)
    chain = key.texts("x5c", longest=_LONGEST_ENTRY)
    if not 1 <= len(chain) <= _MOST_CERTIFICATES:
        raise UnfitEntryError(f"a key of it has no, or more than {_MOST_CERTIFICATES}, certificates")
    try:
        leaf = x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
        same = public_key_der(leaf) == der
    except UNREADABLE as error:
        raise UnfitEntryError("a certificate of it cannot be read") from error
    if not same:
        raise UnfitEntryError("a certificate of it is of another key")
    return key_thing(der), certificate_thing(leaf)


def _members(octets: bytes) -> Fields:
    try:
        found: object = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise UnfitEntryError("a part of it is not JSON") from error
    if not isinstance(found, dict):
        raise UnfitEntryError("a part of it is no JSON object")
    return Fields(found)


def _octets(text: str) -> bytes:
    """Return the bytes behind base64url without padding (RFC 7515 2)."""
    if set(text) & set("+/="):
        raise UnfitEntryError("a part of it is not base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnfitEntryError("a part of it is not base64url") from error
