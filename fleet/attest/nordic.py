"""Reads what a Nordic modem signs with the identity key of its chip: `%ATTESTTOKEN` and `%KEYGEN`.

Both are `base64url(body).base64url(COSE_Sign1)`, RFC 9052. The signature covers the body as external data
(4.4), with the payload beside it: nothing of the body is believed before it was verified with a key that
somebody vouches for. What is said here of the signature was found with tokens of real chips.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from device_agent.wire import cbor
from device_agent.wire.problems import MalformedMessageError

_LONGEST_TEXT = 8192
_SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""CBOR's own tag (RFC 8949 3.4.6), before what the modem describes."""
_ES256 = b"\xa1\x01\x26"
"""The protected header {1: -7}, the only one that is taken."""
_OPENING = b"\xd2\x84\x43" + _ES256 + b"\xa1\x04\x41"
"""COSE_Sign1 (tag 18), an array of four: the protected header, and {4: key id of one octet}."""
_TWO_ITEMS = b"\x82"
_NUMBER_OCTETS = 32
_NONCE_OCTETS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A signed answer of the modem, taken apart and not believed."""

    body: bytes
    payload: bytes | None
    signature: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an answer; raises `MalformedMessageError`."""
        if len(text) > _LONGEST_TEXT:
            raise MalformedMessageError(f"token must not exceed {_LONGEST_TEXT} characters")
        body, _, signed = text.partition(".")
        octets = _octets(signed)
        if not octets.startswith(_OPENING):
            raise MalformedMessageError("token must end with a COSE_Sign1 of ES256")
        match cbor.decode(_TWO_ITEMS + octets[len(_OPENING) + 1 :]):
            case [None | bytes() as payload, bytes(signature)] if len(signature) == 2 * _NUMBER_OCTETS:
                return cls(body=_octets(body), payload=payload, signature=signature)
            case _:
                raise MalformedMessageError("token must hold a payload and a signature")

    def is_signed_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Return whether the owner of this P-256 key signed body and payload."""
        signed = cbor.encode(["Signature1", _ES256, self.body, self.payload])
        r, s = (int.from_bytes(self.signature[at : at + _NUMBER_OCTETS]) for at in (0, _NUMBER_OCTETS))
        try:
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What `%ATTESTTOKEN` says: which chip this is, and the challenge that it answers."""

    uuid: str
    nonce: bytes

    @classmethod
    def read(cls, token: Token) -> Self:
        """Read the body of a token; raises `MalformedMessageError`."""
        match _described(token.body):
            case [1, bytes(uuid), int(), bytes(), bytes(nonce)] if _are_right(uuid, nonce):
                return cls(uuid=str(UUID(bytes=uuid)), nonce=nonce)
            case _:
                raise MalformedMessageError("token must hold a device identity message")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatement:
    """What `%KEYGEN` says: this chip made the key of this request, in this security tag."""

    uuid: str
    tag: int
    csr: bytes
    """DER, as the modem sent it."""

    @classmethod
    def read(cls, token: Token) -> Self:
        """Read body and payload of an answer; raises `MalformedMessageError`."""
        match _described(token.payload or b""):
            case [9, bytes(uuid), bytes(tag), bytes(digest), bytes(nonce)] if _are_right(uuid, nonce):
                pass
            case _:
                raise MalformedMessageError("token must state which key was made")
        if digest != hashlib.sha256(token.body).digest():
            raise MalformedMessageError("token must state the request that comes with it")
        number = cbor.decode(tag)
        if not isinstance(number, int):
            raise MalformedMessageError("token must name a security tag")
        # Tags beyond 2^31 come as negative numbers.
        return cls(uuid=str(UUID(bytes=uuid)), tag=number % 2**32, csr=token.body)


def _are_right(uuid: bytes, nonce: bytes) -> bool:
    return len(uuid) == len(nonce) == _NONCE_OCTETS


def _described(octets: bytes) -> cbor.Item:
    return cbor.decode(octets.removeprefix(_SELF_DESCRIBED))


def _octets(text: str) -> bytes:
    if set(text) & set("+/="):
        raise MalformedMessageError("token must be base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedMessageError("token must be base64url") from error
