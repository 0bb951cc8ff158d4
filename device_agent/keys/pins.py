"""The PIN of a token: from a file, a program, systemd's credentials, or whoever sits at the terminal.

It comes from no argument and no variable, and goes nowhere but to the token. A PIN that the token
refused is not given to it again, not even by the next process: real tokens lock after three.
"""

import getpass
import hashlib
import hmac
import os
import secrets
import shlex
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from device_agent.errors import KeyStoreError, StateError
from device_agent.files import read_file, remove_file, write_file
from device_agent.terminal import can_ask
from device_agent.wire.secret import Secret

CREDENTIAL = "device-agent-pin"
"""Name of the credential, as in `LoadCredentialEncrypted=device-agent-pin` (systemd.exec(5))."""

_LONGEST = 255
_OTHERS = 0o077
# systemd lets its user in by an access list, which shows as the group's read bit.
_OTHERS_OF_CREDENTIAL = 0o037
_CHANGED_BY_OTHERS = 0o022
_PROGRAM_SECONDS = 30
_SOURCE_HINT = "is pin-source right"
_SALT = 16


class PinSource:
    """Where one token's PIN comes from; what a person typed is kept, as nobody types it twice."""

    def __init__(self, pin_source: str) -> None:
        self._pin_source = pin_source
        self._typed: Secret | None = None

    def read(self, token: str) -> Secret:
        """Return the PIN; `token` names it to who is asked.

        Raises:
            KeyStoreError: there is none, or others can read it.
        """
        if self._pin_source.startswith("|"):
            return _from_program(shlex.split(self._pin_source.removeprefix("|")))
        if self._pin_source:
            return _from_file(_path(self._pin_source), others=_OTHERS)
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if folder and (path := Path(folder, CREDENTIAL)).exists():
            return _from_file(path, others=_OTHERS_OF_CREDENTIAL)
        if self._typed is None:
            self._typed = _ask(token)
        return self._typed

    def forget(self) -> None:
        """Forget what was typed, as it was wrong."""
        self._typed = None


class RefusedPins:
    """Remembers over restarts which PIN a token refused last, as a salted hash (RFC 7914)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def require_untried(self, pin: Secret, *, serial: str) -> None:
        """Raise `KeyStoreError` where this token has refused this PIN."""
        held = self._held()
        if held is not None and hmac.compare_digest(held, _hash(pin, serial, salt=held[:_SALT])):
            raise KeyStoreError(
                "the token refused this PIN before, so it is not tried again",
                hint="put the right PIN where the wrong one is; a few wrong ones lock the token",
            )

    def add(self, pin: Secret, *, serial: str) -> None:
        """Keep that this token refused this PIN; raises `KeyStoreError`."""
        try:
            write_file(self._path, _hash(pin, serial, salt=secrets.token_bytes(_SALT)))
        except StateError as error:
            raise KeyStoreError(f"the token refused the PIN, and {error}", hint=error.hint) from error

    def clear(self) -> None:
        """Forget it, as the token has taken another; raises `KeyStoreError`."""
        try:
            if self._held() is not None:
                remove_file(self._path)
        except StateError as error:
            raise KeyStoreError(str(error), hint=error.hint) from error

    def _held(self) -> bytes | None:
        try:
            return read_file(self._path, most=4096)
        except StateError as error:
            raise KeyStoreError(str(error), hint=error.hint) from error


def _hash(pin: Secret, serial: str, *, salt: bytes) -> bytes:
    # The serial number: the PIN that one token refuses may be the right one of another.
    hashed = hashlib.scrypt(pin.reveal().encode() + b"\0" + serial.encode(), salt=salt, n=2**14, r=8, p=1)
    return salt + hashed


def _path(pin_source: str) -> Path:
    path = pin_source.removeprefix("file:")
    if path.startswith("///"):
        path = path[2:]
    if not path.startswith("/"):
        raise KeyStoreError(
            "pin-source names a file or, after |, a program by its path from /",
            hint="pin-source=file:/etc/device-agent/pin",
        )
    return Path(path)


def _from_file(path: Path, *, others: int) -> Secret:
    try:
        # Without O_NONBLOCK, a pipe put in its place would hold the agent for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise KeyStoreError(f"cannot read the PIN in {path}: {reason}", hint=_SOURCE_HINT) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & others:
            raise KeyStoreError(f"others than its owner may read the PIN in {path}", hint=f"chmod 600 {path}")
        content = file.read(_LONGEST + 2)
    return _pin(content, where=str(path))


def _from_program(command: Sequence[str]) -> Secret:
    """Run a program that says the PIN (RFC 7512 2.4), with no shell in between."""
    program = _path(command[0] if command else "")
    try:
        if program.stat().st_mode & _CHANGED_BY_OTHERS:
            raise KeyStoreError(f"others than its owner may change {program}", hint=f"chmod go-w {program}")
        # What it says on stderr is dropped, not logged: it may hold the PIN.
        ended = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=_PROGRAM_SECONDS,
            check=True,
        )
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise KeyStoreError(f"cannot ask {program} for the PIN: {reason}", hint=_SOURCE_HINT) from error
    except subprocess.CalledProcessError as error:
        raise KeyStoreError(
            f"{program} says no PIN, it ended with {error.returncode}", hint=_SOURCE_HINT
        ) from None
    except subprocess.TimeoutExpired:
        raise KeyStoreError(f"{program} says no PIN in {_PROGRAM_SECONDS} s", hint=_SOURCE_HINT) from None
    return _pin(ended.stdout, where=str(program))


def _pin(content: bytes, *, where: str) -> Secret:
    line = content.removesuffix(b"\n")
    if not 0 < len(line) <= _LONGEST or b"\n" in line or b"\0" in line:
        raise KeyStoreError(f"{where} holds no PIN", hint="a PIN is one line")
    try:
        return Secret(line.decode())
    except UnicodeDecodeError as error:
        raise KeyStoreError(f"{where} holds no PIN", hint="a PIN is UTF-8 text") from error


def _ask(token: str) -> Secret:
    if not can_ask():
        raise KeyStoreError(
            f"nothing says the PIN of the token {token}",
            hint=f"pin-source=file:/path in the URI, or the systemd credential {CREDENTIAL}",
        )
    return _pin(getpass.getpass(f"PIN of the token {token}: ").encode(), where="the answer")
