"""The issuing keys of a home that are in use: each is opened once, however often the authorities are read.

What is handed out signs; no key leaves it.
"""

from pathlib import Path

from device_agent.wire.secret import Secret
from fleet.ca.signers import FileSigner, PrivateKey, Signer, encrypted_pem, rehearsal_key
from fleet.ca.token_keys import TokenKeys
from fleet.core.authority import KeyKind
from fleet.core.goodkey import CertifiedKey, key_hash
from fleet.home import AuthorityFiles

_WORK_FACTOR = 14
"""scrypt's N is 2 to this power."""


class KeyRing:
    """Signers by the file of their key, and the key that it must be."""

    __slots__ = ("_files", "_passphrase", "_rehearsals", "tokens")

    def __init__(self, passphrase: Secret, *, tokens: TokenKeys | None = None) -> None:
        self._passphrase = passphrase
        self.tokens = tokens or TokenKeys()
        self._files: dict[tuple[Path, str], FileSigner] = {}
        self._rehearsals: dict[tuple[str, int], PrivateKey] = {}

    def file(self, path: Path, public_key: CertifiedKey) -> FileSigner:
        """Return the signer of a key in an encrypted file; nothing is read before its first use."""
        place = (path, key_hash(public_key))
        if place not in self._files:
            self._files[place] = FileSigner(path, passphrase=self._passphrase, public_key=public_key)
        return self._files[place]

    def authority(self, files: AuthorityFiles, kind: KeyKind, public_key: CertifiedKey) -> Signer:
        """Return the signer of an issuing CA, wherever its key is. Raises `FleetError`."""
        if kind is KeyKind.TOKEN:
            return self.tokens.signer(files.token, public_key)
        return self.file(files.ca.key, public_key)

    def rehearsal(self, public_key: CertifiedKey) -> PrivateKey:
        """Return a key that signs as this one does, and is worth nothing: one for each kind of key."""
        kind = (type(public_key).__name__, getattr(public_key, "key_size", 0))
        if kind not in self._rehearsals:
            self._rehearsals[kind] = rehearsal_key(public_key)
        return self._rehearsals[kind]

    def seal(self, key: PrivateKey, *, randomness: bytes) -> bytes:
        """Return a key's PEM as this ring opens it; `randomness` is 32 octets."""
        return encrypted_pem(key, self._passphrase, randomness=randomness, work_factor=_WORK_FACTOR)
