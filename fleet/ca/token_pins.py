"""The PIN of a token: from a file, a descriptor that was handed over, a systemd credential, or a person.

It comes from no argument and no variable, and goes nowhere but to the token. What the token refused is not
given to it again, not by the next start of the server either: real tokens lock after a few.
"""

import getpass
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, FleetError, NotFoundError
from fleet.files import make_folder, read_secret, read_secret_bytes, write_file
from fleet.terminal import can_ask

CREDENTIAL = "fleet-token-pin"
"""Name of the credential, as in `LoadCredentialEncrypted=fleet-token-pin` (systemd.exec(5))."""
_CREDENTIAL_CLOSED = 0o037
"""systemd lets its user in by an access list, which shows as the group's read bit."""
_LONGEST = 255
_FIRST_DESCRIPTOR = 3
_SALT = 16


class TokenPins:
    """Where the PIN of one token comes from; what cannot be read twice is kept."""

    def __init__(self, pin_source: str, *, refused: Path | None) -> None:
        """`pin_source` is of a URI: `file:/path`, `fd:N`, or empty. `refused` remembers over restarts."""
        self._source = pin_source
        self._refused = refused
        self._kept: Secret | None = None

    def read(self, token: str, *, serial: str) -> Secret:
        """Return the PIN; `token` names it to who is asked.

        Raises:
            NotFoundError, BadInputError: there is none, others can read it, or the token has refused it.
        """
        pin = self._kept or self._found(token)
        if not (pin.reveal() and pin.reveal().isprintable()) or len(pin.reveal()) > _LONGEST:
            raise BadInputError(f"the PIN of the token {token} is no PIN", hint="a PIN is one line of text")
        held = self._held()
        if held is not None and hmac.compare_digest(held, _hash(pin, serial, salt=held[:_SALT])):
            raise BadInputError(
                f"the token {token} refused this PIN before, so it is not tried again",
                hint="put the right PIN where the wrong one is; a few wrong ones lock the token",
            )
        return pin

    def refuse(self, pin: Secret, *, serial: str) -> None:
        """Remember that the token refused a PIN."""
        self._kept = None
        if self._refused is None:
            return
        with suppress(FleetError):  # a disk that can only be read; that the PIN is wrong is told all the same
            make_folder(self._refused.parent)
            write_file(self._refused, _hash(pin, serial, salt=secrets.token_bytes(_SALT)))

    def accept(self) -> None:
        """The token took the PIN: what it refused before counts no more."""
        if self._refused is not None:
            self._refused.unlink(missing_ok=True)

    def _found(self, token: str) -> Secret:
        if self._source.startswith("fd:"):
            self._kept = _from_descriptor(self._source.removeprefix("fd:"))
            return self._kept
        if self._source:
            return read_secret(_path(self._source))
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if folder and (credential := Path(folder, CREDENTIAL)).exists():
            return read_secret(credential, closed=_CREDENTIAL_CLOSED)
        self._kept = _ask(token)
        return self._kept

    def _held(self) -> bytes | None:
        if self._refused is None or not self._refused.exists():
            return None
        return read_secret_bytes(self._refused)


def _hash(pin: Secret, serial: str, *, salt: bytes) -> bytes:
    # The serial number: the PIN that one token refuses may be the right one of another.
    told = pin.reveal().encode() + b"\0" + serial.encode()
    return salt + hashlib.scrypt(told, salt=salt, n=2**14, r=8, p=1)


def _path(source: str) -> Path:
    path = source.removeprefix("file:")
    path = path[2:] if path.startswith("///") else path
    if not path.startswith("/"):
        raise BadInputError(
            "pin-source is neither file:/path nor fd:N", hint="such as pin-source=file:/etc/fleet/pin"
        )
    return Path(path)


def _from_descriptor(number: str) -> Secret:
    """Read a PIN that whoever started us handed over; it can be read once."""
    if not number.isdecimal() or int(number) < _FIRST_DESCRIPTOR:
        raise BadInputError(f"fd:{number} is no descriptor for a PIN", hint="such as pin-source=fd:3")
    try:
        with os.fdopen(int(number), "rb") as file:
            line = file.read(_LONGEST + 2).partition(b"\n")[0].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(
            f"there is no PIN to be read at descriptor {number}", hint="such as: fleet serve 3< PINFILE"
        ) from error
    if not line:
        raise BadInputError(f"descriptor {number} gave no PIN", hint="its first line must be the PIN")
    return Secret(line)


def _ask(token: str) -> Secret:
    if not can_ask():
        raise NotFoundError(
            f"nothing says the PIN of the token {token}",
            hint=f"pin-source=file:/path in the URI, or the systemd credential {CREDENTIAL}",
        )
    return Secret(getpass.getpass(f"PIN of the token {token}: "))
