"""Prints labels: a command that reads them on standard input, or a printer with raw TCP (port 9100)."""

import asyncio
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, Self

from fleet.errors import BadInputError, UnreachableError
from fleet.station.telling.book import Job, Kind
from fleet.station.telling.labels import LabelText, Template

_RAW_PORT = 9100
_SECONDS = 15.0
_TCP = re.compile(r"tcp:(?://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+)(?::([0-9]{1,5}))?/?")


class Device(Protocol):
    """Where labels come out."""

    async def print(self, label: bytes) -> None:
        """Print one; raises UnreachableError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPrinter:
    """A printer on the network."""

    host: str
    port: int

    async def print(self, label: bytes) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                _, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(label)
                    await writer.drain()
                    writer.write_eof()
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            raise UnreachableError(f"the printer {self.host}:{self.port} does not answer") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintCommand:
    """A program that prints its standard input, such as `lp -d labels`."""

    words: tuple[str, ...]

    async def print(self, label: bytes) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise UnreachableError(f"{self.words[0]} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(_SECONDS):
                await process.communicate(label)
        except TimeoutError as error:
            raise UnreachableError(f"{self.words[0]} did not end in {_SECONDS:g} s") from error
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode != 0:
            raise UnreachableError(f"{self.words[0]} ended with {process.returncode}")


def device_of(text: str) -> Device:
    """Return the printer that `tcp:HOST[:PORT]` or a command line names; no shell runs it.

    Raises:
        BadInputError: it is neither.
    """
    hint = "--printer tcp:192.0.2.9, or --printer 'lp -d labels'"
    if text.startswith("tcp:"):
        match = _TCP.fullmatch(text)
        port = int(match[2] or _RAW_PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise BadInputError(f"{text!a} is no printer", hint=hint)
        return RawPrinter(host=match[1].strip("[]"), port=port)
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise BadInputError(f"the printer's command cannot be read: {error}", hint=hint) from error
    if not words:
        raise BadInputError("the printer's command is empty", hint=hint)
    return PrintCommand(words=words)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPrinter:
    """A `Courier` to a printer, through a template."""

    device: Device
    template: Template

    @classmethod
    def parse(cls, printer: str, template: str) -> Self:
        """Take both options; raises BadInputError."""
        return cls(device=device_of(printer), template=Template.load(template))

    @property
    def kind(self) -> Kind:
        return Kind.LABEL

    @property
    def at_once(self) -> int:
        """One: what was printed when the printer went away must not come out twice."""
        return 1

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[str]:
        """Print each; raises UnreachableError."""
        for job in jobs:
            await self.device.print(self.template.render(LabelText.parse(job.body)))
        return [""] * len(jobs)
