"""Where a device's keys live: in files, or in the token or TPM that was named when it first enrolled.

The place is kept in the state folder, and changes only when no key is in use: an identity never moves
from a token to a file, by itself or by a slip.
"""

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.errors import BadInputError, StateError
from device_agent.files import read_file, remove_file, write_file
from device_agent.keys.kinds import AtRest, KeyKind
from device_agent.keys.software import FileKeyStore
from device_agent.keys.uri import parse_token_uri
from device_agent.ports import Attestor, KeyStore
from device_agent.wire.token_uri import TokenUri

if TYPE_CHECKING:
    from device_agent.keys.tpm_link import TpmPlace

PLACE = "key-place"
_FILE = "file:"
_SEALED = "sealed:"
_TPM = "tpm:"
_FOLDER = "keys"
_REFUSED_PINS = "pin-refused"
_PIV_KEYS = "piv-keys"
_MOST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Files of this kind of keys."""

    kind: KeyKind = KeyKind.P256
    at_rest: AtRest = AtRest.CLEAR

    def text(self) -> str:
        """Return the place as `parse_place` takes it."""
        return f"{_FILE if self.at_rest is AtRest.CLEAR else _SEALED}{self.kind}"


def parse_place(text: str) -> "TokenUri | TpmPlace | Files":
    """Return the token or the TPM that `--key` names, or the kind of the keys in files.

    Raises:
        BadInputError: it names none of them.
    """
    if text in ("file", _FILE):
        return Files()
    if text.startswith(_FILE):
        return Files(kind=_kind(text.removeprefix(_FILE)))
    if text.startswith(_SEALED):
        kind = _kind(text.removeprefix(_SEALED) or KeyKind.P256)
        return Files(kind=kind, at_rest=AtRest.SEALED)
    if text.startswith(_TPM):
        from device_agent.keys.tpm_link import parse_tpm_place  # noqa: PLC0415 - few devices have one

        return parse_tpm_place(text.removeprefix(_TPM))
    if not text.startswith("pkcs11:"):
        raise BadInputError(
            "--key must be file:, sealed:, tpm:, or the pkcs11: URI of a token",
            hint="leave it out for a key in a 0600 file",
        )
    uri = parse_token_uri(text)
    if uri.object:
        raise BadInputError("--key names a token, not a key in it", hint="leave object= out")
    return uri


def _kind(text: str) -> KeyKind:
    try:
        return KeyKind(text)
    except ValueError as error:
        kinds = ", ".join(f"{_FILE}{kind}" for kind in KeyKind)
        raise BadInputError("--key names a kind of key that is not made here", hint=kinds) from error


def open_keys(state: Path) -> KeyStore:
    """Return the key store of a state folder; nothing is asked of a token yet. Raises `StateError`."""
    match _held(state):
        case Files() as files:
            return FileKeyStore(state / _FOLDER, kind=files.kind, at_rest=files.at_rest)
        case TokenUri() as uri if uri.piv_slots:
            from device_agent.keys.piv_slots import PivKeyStore  # noqa: PLC0415 - as below

            return PivKeyStore(uri, refused_pins=state / _REFUSED_PINS, taken=state / _PIV_KEYS)
        case TokenUri() as uri:
            from device_agent.keys.pkcs11 import TokenKeyStore  # noqa: PLC0415 - files do without its memory

            return TokenKeyStore(uri, refused_pins=state / _REFUSED_PINS)
        case place:
            from device_agent.keys.tpm import TpmKeyStore  # noqa: PLC0415 - as above

            return TpmKeyStore(place, state / _FOLDER)


def open_tpm(state: Path) -> Attestor:
    """Return what proves that keys are in the TPM of a state folder.

    Raises:
        BadInputError: its keys are elsewhere. StateError: where they are cannot be read.
    """
    from device_agent.keys.tpm import TpmAttestor, TpmKeyStore  # noqa: PLC0415 - as above

    place = _held(state)
    if isinstance(place, Files | TokenUri):
        raise BadInputError("the keys of this device are in no TPM", hint="device-agent enroll --tpm")
    return TpmAttestor(place=place, store=TpmKeyStore(place, state / _FOLDER))


def settle(state: Path, wanted: str, *, in_use: frozenset[str]) -> None:
    """Make a place that of this device's keys, under the lock of its state folder.

    Args:
        state: the state folder.
        wanted: as `--key` has it.
        in_use: the keys that the record names.

    Raises:
        BadInputError: it is no place, or keys are in use elsewhere.
        StateError: it cannot be kept.
    """
    place, held = parse_place(wanted), _held(state)
    if place == (replace(held, object="") if isinstance(held, TokenUri) else held):
        return
    if in_use and not _moves_nothing(place, held):
        raise BadInputError(
            f"this device has its keys in {_words(held)} already",
            hint="leave --key out to go on with them; device-agent reset to begin again",
        )
    if place == Files():
        remove_file(state / PLACE)
        return
    if isinstance(place, TokenUri):
        # The prefix tells this device's keys from others in the token: only its own are ever destroyed.
        fresh = f"device-agent-{secrets.token_hex(8)}"
        prefix = held.object if isinstance(held, TokenUri) and _moves_nothing(place, held) else fresh
        text = replace(place, object=prefix).text()
    elif isinstance(place, Files):
        text = place.text()
    else:
        text = f"{_TPM}{place.text()}"
    write_file(state / PLACE, f"{text}\n".encode())


def _moves_nothing(place: "TokenUri | TpmPlace | Files", held: "TokenUri | TpmPlace | Files") -> bool:
    """Tell whether only the kind of keys differs, or how files hold them, which is for the next one."""
    if isinstance(place, TokenUri) and isinstance(held, TokenUri):
        if bool(place.slots) is not bool(held.slots):
            return False
        return replace(place, key_type="", piv_slots="") == replace(
            held, key_type="", piv_slots="", object=""
        )
    return isinstance(place, Files) and isinstance(held, Files)


def _words(held: "TokenUri | TpmPlace | Files") -> str:
    match held:
        case Files():
            return "files"
        case TokenUri():
            return replace(held, object="").text()
        case _:
            return f"the TPM {held.text()}"


def forget(state: Path) -> None:
    """Forget the place after its keys are destroyed; raises `StateError`."""
    remove_file(state / PLACE)


def _held(state: Path) -> "TokenUri | TpmPlace | Files":
    content = read_file(state / PLACE, most=_MOST)
    if content is None:
        return Files()
    try:
        text = content.decode().strip()
        return parse_token_uri(text) if text.startswith("pkcs11:") else parse_place(text)
    except (UnicodeDecodeError, BadInputError) as error:
        raise StateError(
            f"{state / PLACE} does not say where the keys are", hint="restore the state folder"
        ) from error
