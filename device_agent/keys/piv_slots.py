"""Keys in the slots of a PIV token such as a YubiKey: made there by the token's own tool, used by the agent.

PKCS#11 gives no way to make or destroy such a key by a name. So each generation takes a slot whose key no
generation has had before; a file of the state folder says which, and outlives a reset. A key that was given
up stays in its slot until somebody makes another one there, and is never used again.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.errors import KeyStoreError, StateError
from device_agent.files import read_file, write_file
from device_agent.keys import token_kinds
from device_agent.keys.cryptoki import Attribute, Session, Template
from device_agent.keys.tls_key import PublicKey
from device_agent.keys.token_access import PRIVATE, PUBLIC, TokenAccess, one, require_kept_inside
from device_agent.keys.token_signer import TokenSigner
from device_agent.keys.uri import PIV_SLOTS
from device_agent.wire.token_uri import TokenUri

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_LINE = re.compile(r"([0-9a-f]{2}) ([0-9a-f]{64}) (-|[a-z0-9][a-z0-9-]{0,63})", re.ASCII)
_MOST = 1024 * 1024
_NOBODY = "-"
_MAKE_ONE = "make one: ykman piv keys generate SLOT public.pem, with a slot that piv-slots= names"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A key that a generation has, or had: then it is nobody's."""

    slot: str
    key_hash: str
    name: str = _NOBODY


class PivKeyStore:
    """The keys of one device in the slots that the URI names, in its order."""

    def __init__(self, uri: TokenUri, *, refused_pins: Path, taken: Path) -> None:
        """`refused_pins` and `taken` are files of the device's state."""
        self._uri, self._file = uri, taken
        self._access = TokenAccess(uri, refused_pins=refused_pins)

    def create(self, name: str) -> TokenSigner:
        """Take the first key that nobody has had; raises `KeyStoreError` where none is left."""
        if not _NAME.fullmatch(name):
            raise KeyStoreError("a key is named by a-z, 0-9 and hyphens")
        taken = self._taken()
        if any(each.name == name for each in taken):
            raise KeyStoreError(f"there is a key {name} already", hint="device-agent doctor")
        had = {each.key_hash for each in taken}
        for slot in self._uri.slots:
            key = self._key_in(slot)
            if key is not None and (key_hash := _hash(key)) not in had:
                self._keep((*taken, _Taken(slot=slot, key_hash=key_hash, name=name)))
                return self._signer(name, slot, key)
        raise KeyStoreError("no slot has a key that is new", hint=_MAKE_ONE)

    def open(self, name: str) -> TokenSigner:
        for each in self._taken():
            if each.name == name:
                key = self._key_in(each.slot)
                if key is None or _hash(key) != each.key_hash:
                    raise KeyStoreError(
                        f"slot {each.slot} does not hold the key {name} any more", hint="device-agent doctor"
                    )
                return self._signer(name, each.slot, key)
        raise KeyStoreError(f"there is no key {name}", hint="device-agent doctor")

    def destroy(self, name: str) -> None:
        """Never use a key again. It stays in its slot, of which only the token's own tool can rid it."""
        taken = self._taken()
        left = tuple(
            _Taken(slot=each.slot, key_hash=each.key_hash) if each.name == name else each for each in taken
        )
        if left != taken:
            self._keep(left)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(each.name for each in self._taken() if each.name != _NOBODY))

    def reference(self, name: str) -> str:
        """Return the RFC 7512 URI of the key: PIV keys are told apart by CKA_ID."""
        slot = next((each.slot for each in self._taken() if each.name == name), None)
        if slot is None:
            raise KeyStoreError(f"there is no key {name}", hint="device-agent doctor")
        return self._uri_of(slot)

    def _key_in(self, slot: str) -> PublicKey | None:
        return self._access.within(lambda session: _found(session, slot))

    def _signer(self, name: str, slot: str, key: PublicKey) -> TokenSigner:
        return TokenSigner(
            name,
            public_key=key,
            access=self._access,
            wanted=_template(slot, PRIVATE),
            reference=self._uri_of(slot),
        )

    def _uri_of(self, slot: str) -> str:
        path, _, query = replace(self._uri, object="").text(of_key=True).partition("?")
        return f"{path};id=%{_id(slot).hex()}?{query}"

    def _taken(self) -> tuple[_Taken, ...]:
        try:
            content = read_file(self._file, most=_MOST)
        except StateError as error:
            raise KeyStoreError(str(error), hint=error.hint) from error
        lines = (content or b"").decode("ascii", "replace").splitlines()
        found = [_LINE.fullmatch(line) for line in lines]
        if None in found:
            raise KeyStoreError(
                f"{self._file} does not say which keys are whose", hint="restore the state folder"
            )
        return tuple(_Taken(slot=line[1], key_hash=line[2], name=line[3]) for line in found if line)

    def _keep(self, taken: tuple[_Taken, ...]) -> None:
        text = "".join(f"{each.slot} {each.key_hash} {each.name}\n" for each in taken)
        try:
            write_file(self._file, text.encode())
        except StateError as error:
            raise KeyStoreError(f"which key is taken cannot be kept: {error}", hint=error.hint) from error


def _found(session: Session, slot: str) -> PublicKey | None:
    """Return the key of a slot, None where it is empty; raises `KeyStoreError` where it is no safe one."""
    if not session.find(_template(slot, PRIVATE)):
        return None
    require_kept_inside(session, one(session, _template(slot, PRIVATE), name=slot), name=slot)
    return token_kinds.read_public(session, one(session, _template(slot, PUBLIC), name=slot))


def _template(slot: str, kind: int) -> Template:
    return {Attribute.CLASS: kind, Attribute.ID: _id(slot)}


def _id(slot: str) -> bytes:
    """Return the CKA_ID that libraries of PIV tokens give to a slot's key (ykcs11, OpenSC)."""
    return bytes((PIV_SLOTS.index(slot) + 1,))


def _hash(key: PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
