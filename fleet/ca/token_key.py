"""A key that cannot leave its token, in the shape that the library's builders take: for requests, CRLs, OCSP.

It signs as its `Signer` does, with the hash that its kind of key has here, and refuses every other use.
"""

from typing import NoReturn, Self, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
)

from fleet.ca.signers import ClassicPrivateKey, Signer, hash_of
from fleet.errors import BadInputError

_Octets: TypeAlias = "bytes | bytearray | memoryview[int]"


def builder_key(signer: Signer) -> ClassicPrivateKey:
    """Return a signer as a private key that builders take.

    Raises:
        BadInputError: keys of this kind are not kept in tokens.
    """
    match signer.public_key:
        case ec.EllipticCurvePublicKey() as public_key:
            return _EcKey(signer, public_key)
        case rsa.RSAPublicKey() as public_key:
            return _RsaKey(signer, public_key)
        case _:
            raise BadInputError("this kind of key is not kept in a token", hint="choose p256, p384 or rsa")


def _refuse(*_: object, **__: object) -> NoReturn:
    raise UnsupportedAlgorithm("this key stays in its token, and does nothing but sign")


def _require_own_hash(signer: Signer, algorithm: object) -> None:
    own = hash_of(signer.public_key)
    if own is None or not isinstance(algorithm, type(own)):
        raise UnsupportedAlgorithm("this key signs with one hash, that of its strength")


class _KeptInside:
    """What no key does that stays in a token, whatever its kind."""

    def private_bytes(
        self,
        encoding: Encoding,
        format: PrivateFormat,  # noqa: A002 - the library's word
        encryption_algorithm: KeySerializationEncryption,
    ) -> bytes:
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class _EcKey(_KeptInside, ec.EllipticCurvePrivateKey):
    def __init__(self, signer: Signer, public_key: ec.EllipticCurvePublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    def sign(self, data: _Octets, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        _require_own_hash(self._signer, signature_algorithm.algorithm)
        return self._signer.sign(bytes(data))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        _refuse()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        _refuse()


class _RsaKey(_KeptInside, rsa.RSAPrivateKey):
    def __init__(self, signer: Signer, public_key: rsa.RSAPublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    def sign(
        self,
        data: _Octets,
        padding: padding.AsymmetricPadding,
        algorithm: asymmetric.Prehashed | hashes.HashAlgorithm | asymmetric.NoDigestInfo,
    ) -> bytes:
        if padding.name != "EMSA-PKCS1-v1_5":
            raise UnsupportedAlgorithm("this key signs with PKCS#1 v1.5 padding (RFC 8017 8.2)")
        _require_own_hash(self._signer, algorithm)
        return self._signer.sign(bytes(data))

    def decrypt(self, ciphertext: bytes, padding: padding.AsymmetricPadding) -> bytes:
        _refuse()

    def private_numbers(self) -> rsa.RSAPrivateNumbers:
        _refuse()
