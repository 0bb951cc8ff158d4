"""Initialises a token by OpenSC's `pkcs11-tool`, with PINs that stand in 0600 files.

A token that is initialised already is never touched. PINs reach the tool by its environment, never by its
command line, which others can read.
"""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from device_agent.errors import KeyStoreError
from device_agent.keys import cryptoki
from device_agent.keys.cryptoki import CallError, TokenInfo

_TOOL = "pkcs11-tool"
_SLOT = re.compile(r"^Slot (\d+) \(", re.MULTILINE)
_EMPTY = "uninitialized"
_PIN_DIGITS, _SO_PIN_DIGITS = 8, 16
_LONGEST_PIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A token as it is to be."""

    module: Path
    label: str
    pin_file: Path
    so_pin_file: Path

    @property
    def uri(self) -> str:
        """What `device-agent enroll --key` takes."""
        label, module, pin = quote(self.label, safe=""), quote(str(self.module)), quote(str(self.pin_file))
        return f"pkcs11:token={label}?module-path={module}&pin-source=file:{pin}"


def prepare(wanted: Preparation) -> TokenInfo:
    """Initialise an empty token, unless there is one of this label; return what it says of itself.

    Raises:
        ValueError: there is no empty token, several have this label, or a tool fails; with what to do.
    """
    if (found := _token(wanted)) is not None:
        return found
    slot = _empty_slot(wanted.module)
    pins = {
        "SO_PIN": _pin(wanted.so_pin_file, digits=_SO_PIN_DIGITS),
        "USER_PIN": _pin(wanted.pin_file, digits=_PIN_DIGITS),
    }
    officer = ("--so-pin", "env:SO_PIN")
    begin = ["--slot-index", str(slot), "--init-token", "--label", wanted.label]
    _run(wanted.module, [*begin, *officer], pins=pins)
    # Some modules give an initialised token another slot: from here on it goes by its label.
    end = ["--token-label", wanted.label, "--login", "--login-type", "so", "--init-pin"]
    _run(wanted.module, [*end, *officer, "--new-pin", "env:USER_PIN"], pins=pins)
    made = _token(wanted)
    if made is None:
        raise ValueError(f"the token {wanted.label} is not there after it was initialised")
    return made


def _token(wanted: Preparation) -> TokenInfo | None:
    try:
        module = cryptoki.load(str(wanted.module))
        module.begin_anew()
        with module.using():
            found = [token for token in module.tokens() if token.label == wanted.label]
    except (KeyStoreError, CallError) as error:
        raise ValueError(f"{wanted.module} cannot be used: {error}") from error
    if len(found) > 1:
        raise ValueError(f"there are {len(found)} tokens {wanted.label}; give each a --label of its own")
    return found[0] if found else None


def _empty_slot(module: Path) -> int:
    """Return the place of the first slot that holds an uninitialised token."""
    shown = _run(module, ["--list-slots"], pins={})
    parts = _SLOT.split(shown)[1:]
    for index, text in zip(parts[::2], parts[1::2], strict=True):
        if _EMPTY in text:
            return int(index)
    raise ValueError("there is no empty token; erase one with its maker's tool, which destroys its keys")


def _run(module: Path, options: Sequence[str], *, pins: Mapping[str, str]) -> str:
    tool = shutil.which(_TOOL)
    if tool is None:
        raise ValueError(f"{_TOOL} is missing: apt-get install opensc")
    ended = subprocess.run(
        [tool, "--module", str(module), *options],
        env={**os.environ, **pins},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        said = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
        raise ValueError(
            f"{_TOOL} fails: {said[-1].removeprefix('error: ') if said else 'it does not say why'}"
        )
    return ended.stdout


def _pin(file: Path, *, digits: int) -> str:
    """Return the PIN in a file, which is made with a new one where there is none."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return _held(file)
    pin = "".join(secrets.choice("0123456789") for _ in range(digits))
    with os.fdopen(descriptor, "w") as made:
        made.write(f"{pin}\n")
        made.flush()
        os.fsync(made.fileno())
    return pin


def _held(file: Path) -> str:
    if file.is_symlink() or file.stat().st_mode & 0o077:
        raise ValueError(f"others than its owner may read {file}: chmod 600 {file}")
    pin = file.read_text().removesuffix("\n")
    if not 0 < len(pin) <= _LONGEST_PIN or not pin.isprintable():
        raise ValueError(f"{file} holds no PIN: it is one line of text")
    return pin
