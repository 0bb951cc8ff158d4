"""Keys in files: one 0600 file a generation, in a folder that only its owner can enter; encrypted if told so.

A private key never leaves this module but into OpenSSL, and never stands in an error or a log.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from device_agent.errors import KeyStoreError, StateError
from device_agent.files import make_folder, remove_file, temporary_of, write_file
from device_agent.keys.chains import readable
from device_agent.keys.kinds import AtRest, KeyKind
from device_agent.keys.private_file import read_private
from device_agent.keys.sealing import key_secret
from device_agent.wire.secret import Secret

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_SUFFIX = ".pem"
_FILE = re.compile(r"\.?([a-z0-9][a-z0-9-]{0,63})\.pem(?:\.new)?", re.ASCII)
_MOST = 16 * 1024


FileKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


_MAKERS: Mapping[KeyKind, Callable[[], FileKey]] = {
    KeyKind.P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyKind.P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyKind.ED25519: ed25519.Ed25519PrivateKey.generate,
    KeyKind.RSA: lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
"""RFC 7468 11."""
_CURVES = {"secp256r1", "secp384r1"}


class FileSigner:
    """One key in a file."""

    __slots__ = ("_key", "_name", "_path", "_secret")

    def __init__(self, name: str, *, path: Path, key: FileKey, secret: Secret | None = None) -> None:
        """`secret` opens the file, where it is encrypted."""
        self._name, self._path, self._key, self._secret = name, path, key, secret

    def __repr__(self) -> str:
        return f"FileSigner({self._name!r})"

    @property
    def name(self) -> str:
        return self._name

    @property
    def public_key_der(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        match self._key:
            case ec.EllipticCurvePrivateKey():
                return self._key.sign(message, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PrivateKey():
                return self._key.sign(message)
            case _:
                return self._key.sign(message, PKCS1v15(), hashes.SHA256())

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> None:
        try:
            with readable(chain_pem) as chain:
                # Without a password, OpenSSL would ask at the terminal.
                password = "" if self._secret is None else self._secret.reveal()
                context.load_cert_chain(chain, self._path, password)
        except (OSError, ssl.SSLError) as error:
            raise KeyStoreError(
                f"the key {self._name} and its certificate do not fit, or cannot be read",
                hint="device-agent doctor",
            ) from error


class FileKeyStore:
    """The keys of one folder; new ones are of one kind, those that are there may be of others."""

    def __init__(self, folder: Path, *, kind: KeyKind = KeyKind.P256, at_rest: AtRest = AtRest.CLEAR) -> None:
        self._folder = folder
        self._kind, self._at_rest = kind, at_rest

    def create(self, name: str) -> FileSigner:
        path = self._path(name)
        if path.exists():
            raise KeyStoreError(f"there is a key {name} already", hint="device-agent doctor")
        secret = key_secret() if self._at_rest is AtRest.SEALED else None
        key = _MAKERS[self._kind]()
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(secret))
        try:
            make_folder(self._folder)
            write_file(path, content)
        except StateError as error:
            raise KeyStoreError(f"the new key cannot be kept: {error}", hint=error.hint) from error
        return FileSigner(name, path=path, key=key, secret=secret)

    def open(self, name: str) -> FileSigner:
        path = self._path(name)
        content = read_private(path, most=_MOST)
        secret = key_secret() if content.startswith(_ENCRYPTED) else None
        try:
            key = load_pem_private_key(content, None if secret is None else secret.reveal().encode())
        except (ValueError, TypeError) as error:
            held = "no private key" if secret is None else "no private key that this machine's secret opens"
            raise KeyStoreError(f"{path} holds {held}", hint="device-agent doctor") from error
        if not isinstance(key, FileKey) or (
            isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in _CURVES
        ):
            raise KeyStoreError(
                f"{path} holds a key of a kind that is not used here", hint="device-agent doctor"
            )
        return FileSigner(name, path=path, key=key, secret=secret)

    def destroy(self, name: str) -> None:
        """Remove the file. Flash and journals may keep old blocks; a token is the place against that."""
        path = self._path(name)
        try:
            remove_file(temporary_of(path))
            remove_file(path)
        except StateError as error:
            raise KeyStoreError(f"the key {name} cannot be destroyed: {error}", hint=error.hint) from error

    def names(self) -> tuple[str, ...]:
        """Return the generations that exist, and those that a power cut left half made."""
        if not self._folder.is_dir():
            return ()
        return tuple(
            sorted({found[1] for path in self._folder.iterdir() if (found := _FILE.fullmatch(path.name))})
        )

    def reference(self, name: str) -> Path:
        return self._path(name)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise KeyStoreError("a key is named by a-z, 0-9 and hyphens")
        return self._folder / f"{name}{_SUFFIX}"


def _encryption(secret: Secret | None) -> KeySerializationEncryption:
    return NoEncryption() if secret is None else BestAvailableEncryption(secret.reveal().encode())
