"""A key store that tells of each signature and of each key that it makes; all else is the store's own."""

import ssl
from collections.abc import Callable
from pathlib import Path

from device_agent.ports import KeyStore, Sidecar, Signer


class CountedSigner:
    """One key. What TLS signs with it, its context does without a word."""

    def __init__(self, signer: Signer, *, signed: Callable[[], None]) -> None:
        self._signer, self._signed = signer, signed

    @property
    def name(self) -> str:
        """The generation by which the key store knows the key."""
        return self._signer.name

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return self._signer.public_key_der

    def sign(self, message: bytes) -> bytes:
        """Sign, and tell of it; raises `KeyStoreError`."""
        signature = self._signer.sign(message)
        self._signed()
        return signature

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> Sidecar | None:
        """Make a TLS client context authenticate, or return who does instead; raises `KeyStoreError`."""
        return self._signer.arm(context, chain_pem=chain_pem)


class CountedKeys:
    """The keys of one device. `made` is told that something was written."""

    def __init__(self, keys: KeyStore, *, signed: Callable[[], None], made: Callable[[], None]) -> None:
        self._keys, self._signed, self._made = keys, signed, made

    def create(self, name: str) -> Signer:
        """Make a key; raises `KeyStoreError`."""
        signer = self._keys.create(name)
        self._made()
        return CountedSigner(signer, signed=self._signed)

    def open(self, name: str) -> Signer:
        """Return a key that exists; raises `KeyStoreError`."""
        return CountedSigner(self._keys.open(name), signed=self._signed)

    def destroy(self, name: str) -> None:
        """Make a key unusable for ever."""
        self._keys.destroy(name)

    def names(self) -> tuple[str, ...]:
        """Return the generations that exist."""
        return self._keys.names()

    def reference(self, name: str) -> Path | str:
        """Return what other programs find the key by."""
        return self._keys.reference(name)
