"""How a token makes, shows and uses a key of each kind (PKCS#11 mechanisms 2.40, sections 2.1 and 2.3)."""

import struct
import sys
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from device_agent.errors import KeyStoreError
from device_agent.keys.cryptoki import Attribute, Session, Template
from device_agent.keys.kinds import KeyKind
from device_agent.keys.tls_key import PublicKey, Scheme

_RSA = 0
"""CKK_RSA."""
_EC_KEY_PAIR_GEN, _ECDSA = 0x1040, 0x1041
_RSA_KEY_PAIR_GEN, _RSA_PKCS, _RSA_PSS = 0x00, 0x01, 0x0D
_RSA_BITS, _RSA_EXPONENT = 2048, bytes.fromhex("010001")
_CURVES: Mapping[bytes, ec.EllipticCurve] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
}
"""By the named curve's object identifier, DER (RFC 5480 2.1.1.1)."""
_NAMED = {curve.name: oid for oid, curve in _CURVES.items()}
_DIGEST_INFO = {
    32: bytes.fromhex("3031300d060960864801650304020105000420"),
    48: bytes.fromhex("3041300d060960864801650304020205000430"),
    64: bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""What stands before a digest of so many octets in PKCS#1 v1.5 (RFC 8017 9.2, note 1)."""
_PSS_HASHES = {32: (0x250, 2), 48: (0x260, 3), 64: (0x270, 4)}
"""CKM_SHA256 and CKG_MGF1_SHA256, and the longer ones, by the digest's octets."""


def recipe(kind: KeyKind) -> tuple[int, Template]:
    """Return the mechanism that makes a key, and what it is told of it.

    Raises:
        KeyStoreError: tokens are not asked for such keys.
    """
    match kind:
        case KeyKind.P256:
            return _EC_KEY_PAIR_GEN, {Attribute.EC_PARAMS: _NAMED["secp256r1"]}
        case KeyKind.P384:
            return _EC_KEY_PAIR_GEN, {Attribute.EC_PARAMS: _NAMED["secp384r1"]}
        case KeyKind.RSA:
            return _RSA_KEY_PAIR_GEN, {
                Attribute.MODULUS_BITS: _RSA_BITS,
                Attribute.PUBLIC_EXPONENT: _RSA_EXPONENT,
            }
        case KeyKind.ED25519:
            raise KeyStoreError("keys in tokens are p256, p384 or rsa", hint="key-type=p256")


def read_public(session: Session, public: int) -> PublicKey:
    """Return the key of a public object; raises `KeyStoreError`."""
    kind = int.from_bytes(session.read(public, Attribute.KEY_TYPE), sys.byteorder)
    try:
        return _read_rsa(session, public) if kind == _RSA else _read_point(session, public)
    except (ValueError, KeyError) as error:
        raise KeyStoreError(
            "the token's public key is of no kind that is used here", hint="use another token"
        ) from error


def sign(session: Session, private: int, key: PublicKey, *, digest: bytes, scheme: Scheme) -> bytes:
    """Return the signature of a digest by a private object.

    Raises:
        CallError: the token does not. KeyStoreError: what it returned has a wrong length.
    """
    octets = key.key_size // 8
    if isinstance(key, ec.EllipticCurvePublicKey):
        # ECDSA takes a digest's leftmost bits (FIPS 186-5 6.4.1); modules differ in who cuts them.
        raw = session.sign(private, _ECDSA, digest[:octets])
        _require_length(raw, 2 * octets)
        return encode_dss_signature(int.from_bytes(raw[:octets]), int.from_bytes(raw[octets:]))
    if scheme is Scheme.PSS:
        hash_, mask = _PSS_HASHES[len(digest)]
        parameter = struct.pack("@LLL", hash_, mask, len(digest))
        raw = session.sign(private, _RSA_PSS, digest, parameter=parameter)
    else:
        raw = session.sign(private, _RSA_PKCS, _DIGEST_INFO[len(digest)] + digest)
    _require_length(raw, octets)
    return raw


def _require_length(raw: bytes, octets: int) -> None:
    if len(raw) != octets:
        raise KeyStoreError("the token's signature has a wrong length", hint="device-agent doctor")


def _read_rsa(session: Session, public: int) -> rsa.RSAPublicKey:
    n, e = (
        int.from_bytes(session.read(public, each)) for each in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT)
    )
    return rsa.RSAPublicNumbers(e, n).public_key()


def _read_point(session: Session, public: int) -> ec.EllipticCurvePublicKey:
    curve = _CURVES[session.read(public, Attribute.EC_PARAMS)]
    octets, length = session.read(public, Attribute.EC_POINT), 1 + 2 * (curve.key_size // 8)
    if octets[:2] == bytes((0x04, length)) and len(octets) == 2 + length:
        # PKCS#11 2.40 wants an OCTET STRING around it; some tokens leave that out.
        octets = octets[2:]
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, octets)
