"""Zephyr's shell, as two drivers use it: `hwinfo devid`, and TLS credentials by `cred`.

Needs `CONFIG_HWINFO_SHELL`, `CONFIG_TLS_CREDENTIALS_SHELL` and a buffer that holds the longest credential in
base64 (`CONFIG_TLS_CREDENTIALS_SHELL_CRED_BUF_SIZE`). What was added cannot be replaced, only deleted.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from fleet.station.drivers.console import Answer, Console, ConsoleError, End, Judge, ends
from fleet.station.drivers.course import Greeting, fingerprint_of_unknown
from fleet.station.drivers.credentials import credentials_of
from fleet.station.keeping.units import Generation
from fleet.station.link.causes import Cause

DEFAULT_TAG = 42
CHUNK = 48
"""Characters of base64 a command: Zephyr's shell takes lines of 256, and some builds less."""

_LOOK_SECONDS = 1.0
_SECONDS = 5.0
_WHO = "hwinfo devid"
_UNKNOWN = "command not found"


class Kind(StrEnum):
    """Types of credentials, in the shell's short words."""

    CA = "CA"
    CHAIN = "SERV"
    KEY = "PK"


class Shell:
    """Commands of the shell, for one security tag."""

    def __init__(self, console: Console, *, tag: int) -> None:
        self.tag = tag
        self._console = console

    async def greet(self, model: str) -> Greeting | None:
        """Return which device answers, by the id of its chip."""
        await self._console.settle()
        judge = ends(done=lambda line: line.startswith("ID: 0x"), refused=lambda line: _UNKNOWN in line)
        try:
            answer = await self._console.ask(
                "hwinfo devid", "hwinfo devid", judge=judge, seconds=_LOOK_SECONDS
            )
        except ConsoleError as error:
            if error.cause is Cause.NOT_ANSWERING:
                return None
            raise
        if answer.end is End.REFUSED:
            raise ConsoleError(
                "the shell has no hwinfo: build with CONFIG_HWINFO_SHELL", cause=Cause.OTHER_FIRMWARE
            )
        return Greeting(hardware_id=(answer.after("ID: 0x") or "").lower(), model=model)

    async def held(self) -> dict[Kind, str]:
        """Return the digests of what stands under the tag."""
        judge = ends(done=lambda line: line.endswith("credentials found."), refused=_is_refusal)
        answer = await self.do("cred list", f"cred list {self.tag}", judge)
        rows = (line.split(",") for line in answer.lines if line.startswith(f"{self.tag},"))
        return {
            Kind(row[1]): row[2]
            for row in rows
            if len(row) == 4 and row[1] in set(Kind) and row[3].strip() == "0"
        }

    async def replace(self, pems: Mapping[Kind, str], *, progress: Callable[[int, int], None]) -> None:
        """Write credentials, one after another, in place of what stands there; what is right stays."""
        held = await self.held()
        total, written = sum(map(len, pems.values())), 0
        for kind, pem in pems.items():
            if held.get(kind) != digest(pem):
                if kind in held:
                    await self.delete(kind)
                await self._add(kind, pem)
            written += len(pem)
            progress(written, total)

    async def delete(self, kind: Kind) -> None:
        """Delete a credential, which may be gone already."""
        judge = ends(
            done=lambda line: "Deleted TLS credential" in line or "There is no TLS credential" in line,
            refused=_is_refusal,
        )
        await self.do("cred del", f"cred del {self.tag} {kind}", judge)

    async def require(self, pems: Mapping[Kind, str]) -> None:
        """Require that the device holds exactly these; raises `ConsoleError`."""
        held = await self.held()
        if any(held.get(kind) != digest(pem) for kind, pem in pems.items()):
            raise ConsoleError("the device does not hold what was written", cause=Cause.BAD_CABLE)

    async def do(self, name: str, command: str, judge: Judge, *, seconds: float = _SECONDS) -> Answer:
        """Give a command and return the answer to it; raises `ConsoleError` where it is refused."""
        answer = await self._console.ask(name, command, judge=judge, seconds=seconds)
        if answer.end is not End.DONE:
            raise ConsoleError(f"the shell refuses {name}", cause=Cause.OTHER_FIRMWARE)
        return answer

    async def _add(self, kind: Kind, pem: str) -> None:
        """Write one; the shell takes text of several lines as base64 only, and then adds a NUL (`bint`)."""
        await self._clear()
        text = base64.b64encode(pem.encode()).decode()
        stored = ends(done=lambda line: line.startswith("Stored"), refused=_is_refusal)
        for at in range(0, len(text), CHUNK):
            await self.do("cred buf", f"cred buf {text[at : at + CHUNK]}", stored)
        added = ends(done=lambda line: line.startswith("Added TLS credential"), refused=_is_refusal)
        await self.do("cred add", f"cred add {self.tag} {kind} DEFAULT bint", added)

    async def _clear(self) -> None:
        """Empty the buffer; the shell says something only where there was something."""
        await self._console.send("cred buf clear\r\n")
        await self.held()


def digest(pem: str) -> str:
    """Return the digest that the shell tells: base64 of the SHA-256 over the text and its NUL."""
    return base64.b64encode(hashlib.sha256(pem.encode() + b"\0").digest()).decode()


def leaf_held(held: dict[Kind, str], known: Sequence[Generation]) -> bytes | None:
    """Return the fingerprint of the leaf whose chain has the digest that the shell tells."""
    shown = held.get(Kind.CHAIN)
    if shown is None:
        return None
    packages = [one.package for one in known if one.package]
    right = (one.fingerprint for one in packages if digest(credentials_of(one).chain) == shown)
    return next(right, fingerprint_of_unknown(shown.encode()))


def _is_refusal(line: str) -> bool:
    words = ("already exists", "not a valid", "Not enough room", "Could not", "Failed to", "Please provide")
    return _UNKNOWN in line or any(word in line for word in words)
