"""Keys in a PKCS#11 token: made there, never out of there, one label and CKA_ID a generation.

It touches only objects whose labels begin with this device's own prefix, and believes a token that a key
cannot be taken out only after reading that back. A token that was pulled is looked for once more, then
what is wrong is told in words; nothing falls back to a file.
"""

import hashlib
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.errors import KeyStoreError
from device_agent.keys import cryptoki, provider_key, token_kinds
from device_agent.keys.cryptoki import Attribute, CallError, Module, Session, Sharing, Template, TokenInfo
from device_agent.keys.kinds import KeyKind
from device_agent.keys.openssl_library import errors_kept_apart
from device_agent.keys.pins import PinSource, RefusedPins
from device_agent.keys.tls_key import PublicKey, Scheme
from device_agent.keys.token_errors import LOST, PIN_INCORRECT, told
from device_agent.keys.token_tls import TokenTls, Way
from device_agent.wire.secret import Secret
from device_agent.wire.token_uri import TokenUri

_T = TypeVar("_T")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_PUBLIC, _PRIVATE = 2, 3
_YES, _NO = b"\x01", b"\x00"
_KEPT_INSIDE = {
    Attribute.SENSITIVE: _YES,
    Attribute.EXTRACTABLE: _NO,
    Attribute.ALWAYS_SENSITIVE: _YES,
    Attribute.NEVER_EXTRACTABLE: _YES,
    Attribute.LOCAL: _YES,
}


class _AbsentError(Exception):
    """What was looked for is not there, at least not by what the module knew."""


class TokenSigner:
    """One key in a token."""

    __slots__ = ("_name", "_public_key", "_store")

    def __init__(self, name: str, *, public_key: PublicKey, store: "TokenKeyStore") -> None:
        self._name, self._public_key, self._store = name, public_key, store

    def __repr__(self) -> str:
        return f"TokenSigner({self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @property
    def public_key_der(self) -> bytes:
        return self._public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        is_rsa = isinstance(self._public_key, rsa.RSAPublicKey)
        scheme = Scheme.PKCS1 if is_rsa else Scheme.ECDSA
        return self.sign_digest(hashlib.sha256(message).digest(), scheme)

    def sign_digest(self, digest: bytes, scheme: Scheme) -> bytes:
        return self._store.sign_digest(self._name, self._public_key, digest=digest, scheme=scheme)

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> None:
        self.arm_by(context, chain_pem=chain_pem)

    def arm_by(self, context: ssl.SSLContext, *, chain_pem: str) -> Way:
        """Do as `arm`, and return by which way TLS signs."""
        # OpenSSL tells no reason when a handshake's signature fails; here the token can say it itself.
        self.sign(b"")
        return self._store.arm(context, self, chain_pem=chain_pem)


class TokenKeyStore:
    """The keys of one device in a token; nothing is asked of the token before a key is."""

    def __init__(self, uri: TokenUri, *, refused_pins: Path) -> None:
        """`uri.object` is what this device's labels begin with; `refused_pins` a file of its state.

        New keys are of the URI's key type; those that are there may be of others.
        """
        if not uri.object:
            raise KeyStoreError("nothing tells this device's keys from others in the token")
        self._uri, self._kind = uri, KeyKind(uri.key_type or KeyKind.P256)
        self._pins = PinSource(uri.pin_source)
        self._refused = RefusedPins(refused_pins)
        self._tls = TokenTls()
        self._taken: Secret | None = None

    def create(self, name: str) -> TokenSigner:
        self._label(name)
        public_key = self._within(lambda session: self._generate(session, name))
        return TokenSigner(name, public_key=public_key, store=self)

    def open(self, name: str) -> TokenSigner:
        self._label(name)
        public_key = self._within(lambda session: self._existing(session, name))
        return TokenSigner(name, public_key=public_key, store=self)

    def destroy(self, name: str) -> None:
        # tpm2-pkcs11 leaves a key in the TPM that it used before it destroyed it, and gives handles out twice
        # after it: there must be a new start on either side.
        self._anew()
        self._within(lambda session: self._destroy(session, name))
        self._anew()

    def names(self) -> tuple[str, ...]:
        """Return the generations that exist, and those that a power cut left half made."""
        return self._within(self._names)

    def reference(self, name: str) -> str:
        """Return the RFC 7512 URI of the key, with where its PIN is but without it."""
        return replace(self._uri, object=self._label(name)).text(of_key=True)

    def sign_digest(self, name: str, key: PublicKey, *, digest: bytes, scheme: Scheme) -> bytes:
        """Return the signature of a digest; raises `KeyStoreError`."""

        def act(session: Session) -> bytes:
            private = self._one(session, name, _PRIVATE)
            return token_kinds.sign(session, private, key, digest=digest, scheme=scheme)

        return self._within(act)

    def arm(self, context: ssl.SSLContext, signer: TokenSigner, *, chain_pem: str) -> Way:
        """Make a TLS client context authenticate with a key; raises `KeyStoreError`."""
        uri = replace(self._uri, object=self._label(signer.name))
        return self._tls.arm(context, signer, uri=uri, pin=self._taken_pin, chain_pem=chain_pem)

    def _taken_pin(self) -> Secret:
        """Return the PIN that the token took; another store of this process may have logged in with it."""
        if self._taken is None:
            self._anew()
            self.names()
        if self._taken is None:
            raise KeyStoreError("nothing says which PIN the token took", hint="start the agent anew")
        return self._taken

    def _within(self, act: Callable[[Session], _T]) -> _T:
        """Do something in a session; once more with a new start where the token seems to have gone."""
        with _errors_told():
            return self._within_module(act)

    def _anew(self) -> None:
        with _errors_told():
            self._module().begin_anew()

    def _module(self) -> Module:
        # OpenSSL's provider may use the same library, with sessions of its own.
        sharing = Sharing.BESIDE_OTHERS if provider_key.is_configured() else Sharing.ALONE
        return cryptoki.load(self._uri.module_path, sharing=sharing)

    def _within_module(self, act: Callable[[Session], _T]) -> _T:
        module = self._module()
        with module.using():
            try:
                return act(self._session(module))
            except _AbsentError:
                module.restart()
            except CallError as error:
                if error.code not in LOST:
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
            if error.code == PIN_INCORRECT:
                self._pins.forget()
                self._refused.add(pin, serial=token.serial)
            raise
        self._refused.clear()
        self._taken = pin if self._tls.is_by_provider else None

    def _generate(self, session: Session, name: str) -> PublicKey:
        if self._objects(session, name):
            raise KeyStoreError(f"there is a key {name} already", hint="device-agent doctor")
        label = self._label(name).encode()
        both: Template = {Attribute.TOKEN: True, Attribute.LABEL: label, Attribute.ID: _id(label)}
        mechanism, wanted = token_kinds.recipe(self._kind)
        session.generate(
            mechanism,
            public={**both, **wanted, Attribute.VERIFY: True},
            private={
                **both,
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.SIGN: True,
            },
        )
        try:
            return self._existing(session, name)
        except KeyStoreError:
            self._destroy(session, name)
            raise

    def _existing(self, session: Session, name: str) -> PublicKey:
        self._require_kept_inside(session, self._one(session, name, _PRIVATE), name)
        return token_kinds.read_public(session, self._one(session, name, _PUBLIC))

    def _require_kept_inside(self, session: Session, private: int, name: str) -> None:
        wrong = [each.name for each, kept in _KEPT_INSIDE.items() if session.read(private, each) != kept]
        if wrong:
            raise KeyStoreError(
                f"the token does not keep the key {name} inside: {', '.join(wrong).lower()}",
                hint="use a token that makes keys which cannot be taken out",
            )

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


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        with errors_kept_apart():
            yield
    except _AbsentError as error:
        raise KeyStoreError(str(error), hint="device-agent doctor") from error
    except CallError as error:
        raise told(error) from error


def _id(label: bytes) -> bytes:
    """Return the CKA_ID of a generation: as long as those that others derive from the public key."""
    return hashlib.sha256(label).digest()[:20]
