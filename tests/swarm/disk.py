"""A device's disk in memory: its record, its keys, what it counts and tells. The keys are real ones."""

import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from device_agent.core.stored import StoredRecord, decode, encode
from device_agent.diary import Diary
from device_agent.errors import KeyStoreError
from device_agent.keys.chains import readable
from device_agent.meter import Meter
from device_agent.store import Loaded, RecordStore

NOWHERE = Path("/nonexistent")
"""A folder that nobody may touch: what would be written there is a mistake, and fails."""


class MemoryRecords(RecordStore):
    """The record and the one before it, as the bytes that a disk would hold."""

    def __init__(self, published: Callable[[], None]) -> None:
        """`published` is told of each new certificate in use."""
        super().__init__(NOWHERE)
        self._held: tuple[bytes, ...] = ()
        self._name, self._tell = "", published

    def load(self) -> Loaded | None:
        return Loaded(record=decode(self._held[0])) if self._held else None

    def save(self, record: StoredRecord) -> None:
        self._held = (encode(record), *self._held[:1])

    def keys_in_use(self) -> frozenset[str]:
        return frozenset(key for content in self._held for key in decode(content).keys)

    def publish(self, name: str, files: dict[str, bytes | Path]) -> None:
        if name != self._name:
            self._name = name
            self._tell()

    def erase(self) -> None:
        self._held, self._name = (), ""


class MemorySigner:
    """One key."""

    __slots__ = ("_key", "_name")

    def __init__(self, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        self._name, self._key = name, key

    @property
    def name(self) -> str:
        return self._name

    @property
    def public_key_der(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def arm(self, context: ssl.SSLContext, *, chain_pem: str) -> None:
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with readable(chain_pem + key.decode()) as both:
            context.load_cert_chain(both)


class MemoryKeys:
    """`KeyStore` in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, MemorySigner] = {}
        self.is_full = False
        """Makes no more keys."""

    def create(self, name: str) -> MemorySigner:
        if self.is_full:
            raise KeyStoreError("the new key cannot be kept: no space is left")
        self._keys[name] = MemorySigner(name, ec.generate_private_key(ec.SECP256R1()))
        return self._keys[name]

    def open(self, name: str) -> MemorySigner:
        try:
            return self._keys[name]
        except KeyError:
            raise KeyStoreError(f"there is no key {name}") from None

    def destroy(self, name: str) -> None:
        self._keys.pop(name, None)

    def names(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def reference(self, name: str) -> Path:
        return NOWHERE / name


class MemoryMeter(Meter):
    """Counts, and keeps nothing; `told` hears of each connection and each renewal."""

    def __init__(self, now: datetime, *, told: Callable[[], None]) -> None:
        super().__init__(NOWHERE, now=now)
        self._told = told

    def connected(self) -> None:
        super().connected()
        self._told()

    def renewed(self) -> None:
        super().renewed()
        self._told()

    def keep(self) -> None:
        """Do nothing: the process is the memory."""


class MemoryDiary(Diary):
    """Forgets at once."""

    def __init__(self) -> None:
        super().__init__(NOWHERE, wrote=lambda _length: None)

    def note(self, members: Mapping[str, object]) -> None:
        """Do nothing."""
