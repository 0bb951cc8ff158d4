"""P-256 keys in a PKCS#11 token: made there, never out of there, one label and CKA_ID a generation.

It touches only objects whose labels begin with this device's own prefix, and believes a token that a key
cannot be taken out only after reading that back. A token that was pulled is looked for once more, then
what is wrong is told in words; nothing falls back to a file.
"""

import hashlib
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.errors import KeyStoreError
from device_agent.keys import cryptoki, openssl_provider
from device_agent.keys.cryptoki import Attribute, CallError, Module, Session, Template, TokenInfo
from device_agent.keys.openssl_library import errors_kept_apart
from device_agent.keys.pins import PinSource, RefusedPins
from device_agent.wire.token_uri import TokenUri

_T = TypeVar("_T")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_PUBLIC, _PRIVATE = 2, 3
_EC = 3
_EC_KEY_PAIR_GEN, _ECDSA = 0x1040, 0x1041
_P256 = bytes.fromhex("06082a8648ce3d030107")
_ORDER_OCTETS = 32
_YES, _NO = b"\x01", b"\x00"
_PIN_INCORRECT = 0xA0
_KEPT_INSIDE = {
    Attribute.SENSITIVE: _YES,
    Attribute.EXTRACTABLE: _NO,
    Attribute.ALWAYS_SENSITIVE: _YES,
    Attribute.NEVER_EXTRACTABLE: _YES,
    Attribute.LOCAL: _YES,
}

_LOST = frozenset({0x05, 0x06, 0x30, 0x32, 0x60, 0x82, 0xB0, 0xB3, 0xE0, 0xE1, 0x101, 0x190})
"""What modules return when a token was pulled or changed under them; a new start may find it again."""

_WORDS = {
    0x02: "this machine has no memory left for it",
    0x05: "the token reports an error of its own",
    0x06: "the token could not do it",
    0x12: "the token does not know an attribute that keys need",
    0x30: "the token or its reader reports an error",
    0x31: "the token has no memory left",
    0x32: "the token was pulled",
    0x60: "the key is not in the token any more",
    0x63: "the token does not take keys of this type",
    0x68: "the key must not be used for this",
    0x70: "the token does not know the mechanism",
    0x82: "the key is not in the token any more",
    _PIN_INCORRECT: "the token refuses the PIN",
    0xA1: "the PIN has a form that the token does not take",
    0xA2: "the PIN has a length that the token does not take",
    0xA3: "the PIN has expired",
    0xA4: "the token has locked its PIN",
    0xB3: "the token was pulled",
    0xB5: "the token can only be read",
    0xE0: "the token is not there",
    0xE1: "the token is not one that the module knows",
    0xE2: "the token is write-protected",
    0x101: "nobody is logged in at the token",
    0x102: "the token's user PIN was never set",
    0x104: "another user is logged in at the token",
    0x190: "the module is not initialised",
}
_HINTS = {
    _PIN_INCORRECT: "put the right PIN where the wrong one is; this one is not tried again",
    0xA4: "unlock the token with its security officer's PIN",
    0x31: "remove keys that nobody needs from the token",
    0xB5: "device keys need a token that can be written",
    0xE2: "device keys need a token that can be written",
    0x102: "initialise the token's user PIN",
}


class _AbsentError(Exception):
    """What was looked for is not there, at least not by what the module knew."""


class TokenSigner:
    """One key in a token."""

    __slots__ = ("_name", "_point", "_store")

    def __init__(self, name: str, *, point: ec.EllipticCurvePublicKey, store: "TokenKeyStore") -> None:
        self._name, self._point, self._store = name, point, store

    def __repr__(self) -> str:
        return f"TokenSigner({self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def public_key_der(self) -> bytes:
        return self._point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_point(self) -> bytes:
        """The public key as an uncompressed point (SEC 1 2.3.3)."""
        return self._point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        return self.sign_digest(hashlib.sha256(message).digest())

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a digest of any length: ECDSA takes its leftmost bits (FIPS 186-5 6.4.1)."""
        return self._store.sign_digest(self._name, digest[:_ORDER_OCTETS])

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> None:
        # OpenSSL tells no reason when a handshake's signature fails; here the token can say it itself.
        self.sign(b"")
        openssl_provider.arm(context, self, chain_pem=chain_pem)


class TokenKeyStore:
    """The keys of one device in a token; nothing is asked of the token before a key is."""

    def __init__(self, uri: TokenUri, *, refused_pins: Path) -> None:
        """`uri.object` is what this device's labels begin with; `refused_pins` a file of its state."""
        if not uri.object:
            raise KeyStoreError("nothing tells this device's keys from others in the token")
        self._uri = uri
        self._pins = PinSource(uri.pin_source)
        self._refused = RefusedPins(refused_pins)

    def create(self, name: str) -> TokenSigner:
        self._label(name)
        point = self._within(lambda session: self._generate(session, name))
        return TokenSigner(name, point=point, store=self)

    def open(self, name: str) -> TokenSigner:
        self._label(name)
        point = self._within(lambda session: self._existing(session, name))
        return TokenSigner(name, point=point, store=self)

    def destroy(self, name: str) -> None:
        self._within(lambda session: self._destroy(session, name))

    def names(self) -> tuple[str, ...]:
        """Return the generations that exist, and those that a power cut left half made."""
        return self._within(self._names)

    def reference(self, name: str) -> str:
        """Return the RFC 7512 URI of the key, with where its PIN is but without it."""
        return replace(self._uri, object=self._label(name)).text(of_key=True)

    def sign_digest(self, name: str, digest: bytes) -> bytes:
        """Return the ECDSA signature of a digest, DER (RFC 3279 2.2.3); raises `KeyStoreError`."""
        raw = self._within(lambda session: self._sign(session, name, digest))
        half = len(raw) // 2
        if half != _ORDER_OCTETS or len(raw) % 2:
            raise KeyStoreError("the token's signature has a wrong length")
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))

    def _within(self, act: Callable[[Session], _T]) -> _T:
        """Do something in a session; once more with a new start where the token seems to have gone."""
        try:
            with errors_kept_apart():
                return self._within_module(act)
        except _AbsentError as error:
            raise KeyStoreError(str(error), hint="device-agent doctor") from error
        except CallError as error:
            words = _WORDS.get(error.code, "the token gave an error that has no name here")
            hint = _HINTS.get(error.code, "is the token plugged in and the right one")
            raise KeyStoreError(f"{words} ({error})", hint=hint) from error

    def _within_module(self, act: Callable[[Session], _T]) -> _T:
        module = cryptoki.load(self._uri.module_path)
        with module.using():
            try:
                return act(self._session(module))
            except _AbsentError:
                module.restart()
            except CallError as error:
                if error.code not in _LOST:
                    raise
                module.restart()
            return act(self._session(module))

    def _session(self, module: Module) -> Session:
        token = self._token(module)
        return module.session(token.slot, log_in=lambda session: self._log_in(session, token))

    def _token(self, module: Module) -> TokenInfo:
        uri = self._uri
        found = [
            token
            for token in module.tokens()
            if uri.token in ("", token.label)
            and uri.serial in ("", token.serial)
            and uri.manufacturer in ("", token.manufacturer)
            and uri.model in ("", token.model)
        ]
        named = uri.token or uri.serial
        if not found:
            raise _AbsentError(f"there is no token {named}: it was pulled, or is another one's")
        if len(found) > 1:
            raise KeyStoreError(
                f"there are {len(found)} tokens {named}", hint="name one of them: add ;serial= to the URI"
            )
        return found[0]

    def _log_in(self, session: Session, token: TokenInfo) -> None:
        pin = self._pins.read(token.label)
        self._refused.require_untried(pin, serial=token.serial)
        try:
            session.log_in(pin.reveal())
        except CallError as error:
            if error.code == _PIN_INCORRECT:
                self._pins.forget()
                self._refused.add(pin, serial=token.serial)
            raise
        self._refused.clear()

    def _generate(self, session: Session, name: str) -> ec.EllipticCurvePublicKey:
        if self._objects(session, name):
            raise KeyStoreError(f"there is a key {name} already", hint="device-agent doctor")
        label = self._label(name).encode()
        both: Template = {Attribute.TOKEN: True, Attribute.LABEL: label, Attribute.ID: _id(label)}
        public, private = session.generate(
            _EC_KEY_PAIR_GEN,
            public={**both, Attribute.EC_PARAMS: _P256, Attribute.VERIFY: True},
            private={
                **both,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.SIGN: True,
            },
        )
        try:
            self._require_kept_inside(session, private, name)
            return _point(session, public)
        except KeyStoreError:
            self._destroy(session, name)
            raise

    def _existing(self, session: Session, name: str) -> ec.EllipticCurvePublicKey:
        self._require_kept_inside(session, self._one(session, name, _PRIVATE), name)
        return _point(session, self._one(session, name, _PUBLIC))

    def _require_kept_inside(self, session: Session, private: int, name: str) -> None:
        wrong = [each.name for each, kept in _KEPT_INSIDE.items() if session.read(private, each) != kept]
        if wrong:
            raise KeyStoreError(
                f"the token does not keep the key {name} inside: {', '.join(wrong).lower()}",
                hint="use a token that makes keys which cannot be taken out",
            )

    def _sign(self, session: Session, name: str, digest: bytes) -> bytes:
        return session.sign(self._one(session, name, _PRIVATE), _ECDSA, digest)

    def _destroy(self, session: Session, name: str) -> None:
        # The private one first: a cut between the two leaves nothing that can sign.
        for handle in (*self._objects(session, name, _PRIVATE), *self._objects(session, name, _PUBLIC)):
            session.destroy(handle)

    def _names(self, session: Session) -> tuple[str, ...]:
        prefix = f"{self._uri.object}."
        handles = (handle for kind in (_PUBLIC, _PRIVATE) for handle in session.find({Attribute.CLASS: kind}))
        labels = (session.read(handle, Attribute.LABEL).decode(errors="replace") for handle in handles)
        ours = {label.removeprefix(prefix) for label in labels if label.startswith(prefix)}
        return tuple(sorted(name for name in ours if _NAME.fullmatch(name)))

    def _one(self, session: Session, name: str, kind: int) -> int:
        found = self._objects(session, name, kind)
        if not found:
            raise _AbsentError(f"there is no key {name} in the token")
        if len(found) > 1:
            raise KeyStoreError(
                f"there are {len(found)} keys {name} in the token", hint="device-agent doctor"
            )
        return found[0]

    def _objects(self, session: Session, name: str, kind: int | None = None) -> tuple[int, ...]:
        label = self._label(name).encode()
        kinds = (_PUBLIC, _PRIVATE) if kind is None else (kind,)
        return tuple(
            handle
            for each in kinds
            for handle in session.find(
                {Attribute.CLASS: each, Attribute.LABEL: label, Attribute.ID: _id(label)}
            )
        )

    def _label(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise KeyStoreError("a key is named by a-z, 0-9 and hyphens")
        return f"{self._uri.object}.{name}"


def _id(label: bytes) -> bytes:
    """Return the CKA_ID of a generation: as long as those that others derive from the public key."""
    return hashlib.sha256(label).digest()[:20]


def _point(session: Session, public: int) -> ec.EllipticCurvePublicKey:
    octets = session.read(public, Attribute.EC_POINT)
    if octets[:2] == b"\x04\x41" and len(octets) == 67:
        # PKCS#11 2.40 wants an OCTET STRING around it; some tokens leave that out.
        octets = octets[2:]
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), octets)
    except ValueError as error:
        raise KeyStoreError(
            "the token's public key is no point of P-256", hint="use another token"
        ) from error
