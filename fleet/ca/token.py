"""Keys of authorities in a PKCS#11 token or HSM: made there, never out of there; P-256, P-384 and RSA.

A token is believed to keep a key inside only after that was read back from it. Nothing falls back to a file.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import Attribute, Mechanism, ObjectClass
from pkcs11 import KeyType as TokenKeyType
from pkcs11.types import Key, SignMixin
from pkcs11.util.ec import encode_named_curve_parameters

from device_agent.wire.secret import Secret
from device_agent.wire.token_uri import TokenUri
from fleet.ca.signers import hash_of
from fleet.ca.token_module import OpenToken, module_at
from fleet.ca.token_pins import TokenPins
from fleet.core.goodkey import CertifiedKey, KeyType
from fleet.errors import BadInputError, FleetError, RefusedError

RSA_BITS = 3072
_CURVES: dict[KeyType, tuple[str, ec.EllipticCurve]] = {
    KeyType.P256: ("secp256r1", ec.SECP256R1()),
    KeyType.P384: ("secp384r1", ec.SECP384R1()),
}
_KEPT_INSIDE = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
}
_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo of SHA-256 up to the digest (RFC 8017 9.2, note 1)."""

_HALVES = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
"""In the order in which they are destroyed: a cut between the two leaves nothing that can sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LentKey:
    """What another program needs to sign with a key of a token."""

    uri: TokenUri
    pin: Secret
    refused: Callable[[], None] = field(repr=False)
    """To be called where the token refused the PIN there, so that nobody gives it that one again."""


class TokenSigner:
    """A private key in a token."""

    __slots__ = ("_pins", "_public_key", "_uri")

    def __init__(self, uri: TokenUri, *, pins: TokenPins, public_key: CertifiedKey) -> None:
        """`uri.object` is the key's label; `public_key` what it must belong to."""
        self._uri = uri
        self._pins = pins
        self._public_key = public_key

    @property
    def public_key(self) -> CertifiedKey:
        return self._public_key

    @property
    def waits(self) -> bool:
        return True

    def sign(self, message: bytes) -> bytes:
        match self._public_key:
            case ec.EllipticCurvePublicKey():
                return _ecdsa(self._signed(_digest(self._public_key, message), Mechanism.ECDSA))
            case _:
                return self._signed(_SHA256_INFO + hashlib.sha256(message).digest(), Mechanism.RSA_PKCS)

    def unlock(self) -> None:
        """Find the key, and make sure that it is the one. Raises `FleetError`."""
        found = module_at(self._uri.module_path).within(
            self._uri, self._pins, lambda token: _public_key(token, self._uri.object)
        )
        if found != self._public_key:
            raise BadInputError(
                f"the token {self._uri.token} holds another key {self._uri.object} than the certificate's",
                hint="is it the right token",
            )

    def lend(self) -> LentKey:
        """Return what another program needs, once the token has let us in. Raises `FleetError`."""
        self.unlock()
        serial = module_at(self._uri.module_path).within(self._uri, self._pins, lambda token: token.serial)
        pin = self._pins.read(self._uri.token, serial=serial)
        return LentKey(uri=self._uri, pin=pin, refused=lambda: self._pins.refuse(pin, serial=serial))

    def _signed(self, content: bytes, mechanism: Mechanism) -> bytes:
        def act(token: OpenToken) -> bytes:
            signature: bytes = _private_key(token, self._uri.object).sign(content, mechanism=mechanism)
            return signature

        return module_at(self._uri.module_path).within(self._uri, self._pins, act)


def make_token_key(uri: TokenUri, key_type: KeyType, *, pins: TokenPins) -> TokenSigner:
    """Make a key in a token under the label `uri.object`, and read back that it cannot be taken out.

    Raises:
        RefusedError: there is a key of that name already.
        BadInputError: the token makes no such key, or does not keep it inside.
        FleetError: the token cannot be used.
    """
    public_key = module_at(uri.module_path).within(
        uri, pins, lambda token: _make(token, uri.object, key_type)
    )
    return TokenSigner(uri, pins=pins, public_key=public_key)


def find_token_key(uri: TokenUri, *, pins: TokenPins) -> TokenSigner | None:
    """Return the signer of the key of a label, or None where the token has not both halves of one.

    Raises:
        FleetError: the token cannot be used.
    """
    public_key = module_at(uri.module_path).within(uri, pins, lambda token: _found(token, uri.object))
    return None if public_key is None else TokenSigner(uri, pins=pins, public_key=public_key)


def destroy_token_key(uri: TokenUri, *, pins: TokenPins) -> None:
    """Remove a key for good, both halves; one that is not there is none to remove. Raises `FleetError`."""
    module_at(uri.module_path).within(uri, pins, lambda token: _destroy(token, uri.object))


def _make(token: OpenToken, label: str, key_type: KeyType) -> CertifiedKey:
    if any(True for _ in token.session.get_objects({Attribute.LABEL: label})):
        raise RefusedError(
            f"there is a key {label} in the token already", hint="name another prefix: ;object="
        )
    private = {
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: True,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
    }
    if key_type in _CURVES:
        parameters = {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[key_type][0])}
        domain = token.session.create_domain_parameters(TokenKeyType.EC, parameters, local=True)
        public, made = domain.generate_keypair(
            id=_id(label), label=label, store=True, private_template=private
        )
    elif key_type is KeyType.RSA:
        public, made = token.session.generate_keypair(
            TokenKeyType.RSA, RSA_BITS, id=_id(label), label=label, store=True, private_template=private
        )
    else:
        raise BadInputError(f"no {key_type} key is made in a token", hint="choose p256, p384 or rsa")
    try:
        _require_kept_inside(made, label)
    except FleetError:
        _destroy(token, label)
        raise
    return _certified(public)


def _require_kept_inside(key: Key, label: str) -> None:
    wrong = [name.name.lower() for name, kept in _KEPT_INSIDE.items() if key[name] is not kept]
    if wrong:
        raise BadInputError(
            f"the token does not keep the key {label} inside: {', '.join(wrong)}",
            hint="use a token that makes keys which cannot be taken out",
        )


def _private_key(token: OpenToken, label: str) -> SignMixin:
    if label not in token.keys:
        key = token.session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=label, id=_id(label))
        _require_kept_inside(key, label)
        if not isinstance(key, SignMixin):
            raise BadInputError(f"the token's key {label} must not sign", hint="is it the right token")
        token.keys[label] = key
    return token.keys[label]


def _found(token: OpenToken, label: str) -> CertifiedKey | None:
    halves = [{Attribute.CLASS: kind, Attribute.LABEL: label} for kind in _HALVES]
    is_whole = all(any(True for _ in token.session.get_objects(half)) for half in halves)
    return _public_key(token, label) if is_whole else None


def _public_key(token: OpenToken, label: str) -> CertifiedKey:
    _private_key(token, label)
    return _certified(token.session.get_key(object_class=ObjectClass.PUBLIC_KEY, label=label, id=_id(label)))


def _destroy(token: OpenToken, label: str) -> None:
    token.keys.pop(label, None)
    for kind in _HALVES:
        for found in list(token.session.get_objects({Attribute.CLASS: kind, Attribute.LABEL: label})):
            found.destroy()


def _certified(key: Key) -> CertifiedKey:
    if key.key_type is TokenKeyType.RSA:
        modulus, exponent = (
            int.from_bytes(key[Attribute.MODULUS]),
            int.from_bytes(key[Attribute.PUBLIC_EXPONENT]),
        )
        return rsa.RSAPublicNumbers(e=exponent, n=modulus).public_key()
    point: bytes = key[Attribute.EC_POINT]
    for curve, octets in ((ec.SECP256R1(), 65), (ec.SECP384R1(), 97)):
        # PKCS#11 2.40 wants an OCTET STRING around the point; some tokens leave that out.
        bare = point[2:] if len(point) == octets + 2 else point
        if len(bare) == octets:
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, bare)
    raise BadInputError("the token's public key is no point of P-256 or P-384", hint="use another token")


def _digest(key: ec.EllipticCurvePublicKey, message: bytes) -> bytes:
    digest = hashes.Hash(hash_of(key) or hashes.SHA256())
    digest.update(message)
    return digest.finalize()


def _ecdsa(raw: bytes) -> bytes:
    """Return a signature as X.509 has it (RFC 3279 2.2.3); tokens give both numbers one after the other."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def _id(label: str) -> bytes:
    """Return the CKA_ID of a key: as long as those that others derive from the public key."""
    return hashlib.sha256(label.encode()).digest()[:20]
