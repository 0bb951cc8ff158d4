"""Where a device's keys live: in files, or in the token that was named when it first enrolled.

The place is kept in the state folder, and changes only when no key is in use: an identity never moves
from a token to a file, by itself or by a slip.
"""

import secrets
from dataclasses import replace
from pathlib import Path

from device_agent.errors import BadInputError, StateError
from device_agent.files import read_file, remove_file, write_file
from device_agent.keys.software import FileKeyStore
from device_agent.keys.uri import parse_token_uri
from device_agent.ports import KeyStore
from device_agent.wire.token_uri import TokenUri

PLACE = "key-place"
_FOLDER = "keys"
_REFUSED_PINS = "pin-refused"
_MOST = 4096


def parse_place(text: str) -> TokenUri | None:
    """Return the token that `--key` names, None for files.

    Raises:
        BadInputError: it names neither.
    """
    if text in ("file", "file:"):
        return None
    if not text.startswith("pkcs11:"):
        raise BadInputError(
            "--key must be file: or the pkcs11: URI of a token",
            hint="leave it out for a key in a 0600 file",
        )
    uri = parse_token_uri(text)
    if uri.object:
        raise BadInputError("--key names a token, not a key in it", hint="leave object= out")
    return uri


def open_keys(state: Path) -> KeyStore:
    """Return the key store of a state folder; nothing is asked of a token yet. Raises `StateError`."""
    uri = _held(state)
    if uri is None:
        return FileKeyStore(state / _FOLDER)
    from device_agent.keys.pkcs11 import TokenKeyStore  # noqa: PLC0415 - keys in files do without its memory

    return TokenKeyStore(uri, refused_pins=state / _REFUSED_PINS)


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
    uri, held = parse_place(wanted), _held(state)
    if uri == (held and replace(held, object="")):
        return
    if in_use:
        place = "files" if held is None else replace(held, object="").text()
        raise BadInputError(
            f"this device has its keys in {place} already",
            hint="leave --key out to go on with them; device-agent reset to begin again",
        )
    if uri is None:
        remove_file(state / PLACE)
        return
    # The prefix tells this device's keys from all others in the token: only its own are ever destroyed.
    own = replace(uri, object=f"device-agent-{secrets.token_hex(8)}")
    write_file(state / PLACE, f"{own.text()}\n".encode())


def forget(state: Path) -> None:
    """Forget the place after its keys are destroyed; raises `StateError`."""
    remove_file(state / PLACE)


def _held(state: Path) -> TokenUri | None:
    content = read_file(state / PLACE, most=_MOST)
    if content is None:
        return None
    try:
        return parse_token_uri(content.decode().strip())
    except (UnicodeDecodeError, BadInputError) as error:
        raise StateError(
            f"{state / PLACE} does not say where the keys are", hint="restore the state folder"
        ) from error
