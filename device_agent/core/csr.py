"""Builds certificate signing requests (RFC 2986) over a key that may live anywhere.

The encoder writes the few DER types that a request needs (X.690 8), so that any key that can sign will
do; a library would want the private key itself. It asks for no extension of its own: what a leaf holds
is the server's to say, a request brings a key, a proof of possession, and the name it is meant for.
"""

import base64
import textwrap
from collections.abc import Callable, Iterable

from device_agent.wire.identity import parse_device_id

_INTEGER_ZERO = bytes.fromhex("020100")
_COMMON_NAME = bytes.fromhex("0603550403")

_SIGNATURE_OF_KEY: dict[bytes, bytes] = {
    # id-ecPublicKey (RFC 5480 2.1.1) signs as ecdsa-with-SHA256, parameters absent (RFC 5758 3.2).
    bytes.fromhex("06072a8648ce3d0201"): bytes.fromhex("300a06082a8648ce3d040302"),
    # Ed25519 has one OID for both, parameters absent (RFC 8410 3, 6).
    bytes.fromhex("06032b6570"): bytes.fromhex("300506032b6570"),
    # rsaEncryption signs as sha256WithRSAEncryption, parameters NULL (RFC 4055 5).
    bytes.fromhex("06092a864886f70d010101"): bytes.fromhex("300d06092a864886f70d01010b0500"),
}
"""Algorithm of the key (the first OID of its SubjectPublicKeyInfo) to that of its signatures."""

_OID_WITHIN = 32
"""The algorithm of a SubjectPublicKeyInfo stands within its first octets (RFC 5280 4.1.2.7)."""


def csr_der(device_id: str, *, public_key_der: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Return a request for this key with the device id as its only name.

    Args:
        device_id: common name of the subject.
        public_key_der: SubjectPublicKeyInfo of an elliptic curve, Ed25519 or RSA key.
        sign: signs a message with the private key: ECDSA in DER (RFC 3279 2.2.3) or PKCS#1 v1.5, each with
            SHA-256; Ed25519 takes the message whole.

    Raises:
        ValueError: the key is of another kind.
        MalformedMessageError: the device id is none.
    """
    return request_der(subject_der(device_id), public_key_der=public_key_der, sign=sign)


def request_der(
    subject: bytes, *, public_key_der: bytes, sign: Callable[[bytes], bytes], attributes: Iterable[bytes] = ()
) -> bytes:
    """Return a request for a subject, a DER Name, with attributes, each a DER Attribute (RFC 2986 4.1).

    `public_key_der` and `sign` are those of `csr_der`. Raises `ValueError` for a key of another kind.
    """
    algorithm = _algorithm(public_key_der)
    # DER sorts a SET (X.690 11.6).
    asked = tlv(0xA0, b"".join(sorted(attributes)))
    wanted = tlv(0x30, _INTEGER_ZERO + subject + public_key_der + asked)
    signature = b"\x00" + sign(wanted)
    return tlv(0x30, wanted + algorithm + tlv(0x03, signature))


def subject_der(device_id: str) -> bytes:
    """Return the Name that has the device id as its only attribute, its common name.

    Raises:
        MalformedMessageError: the device id is none.
    """
    attribute = tlv(0x30, _COMMON_NAME + tlv(0x0C, parse_device_id(device_id).encode()))
    return tlv(0x30, tlv(0x31, attribute))


def csr_pem(der: bytes) -> str:
    """Return a request as PEM (RFC 7468 7)."""
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"


def _algorithm(public_key_der: bytes) -> bytes:
    for key_oid, algorithm in _SIGNATURE_OF_KEY.items():
        if key_oid in public_key_der[:_OID_WITHIN]:
            return algorithm
    raise ValueError("the key is neither an elliptic curve key, nor Ed25519, nor an RSA key")


def tlv(tag: int, content: bytes) -> bytes:
    """Return one DER value (X.690 8.1)."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content
