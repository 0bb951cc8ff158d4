"""Child processes of the demo: started with a log each, waited for, and ended by their own process id.

Nothing that was started here outlives the demo.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fleet.cli.output import Json, Members
from fleet.errors import FleetError

_END_SECONDS = 8.0
_TAIL_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program that ended left behind."""

    code: int
    output: str
    log: Path

    def json(self) -> Json:
        """Return the JSON document that it printed. Raises `FleetError`."""
        try:
            found: Json = json.loads(self.output)
        except ValueError as error:
            raise FleetError("a program printed no JSON", hint=f"see {self.log}") from error
        return found

    def members(self) -> Members:
        """Return the JSON object that it printed. Raises `FleetError`."""
        found = self.json()
        if not isinstance(found, dict):
            raise FleetError("a program printed no JSON object", hint=f"see {self.log}")
        return found


@dataclass(slots=True)
class Running:
    """A program that runs; its stdout is read line by line, its stderr goes to its log."""

    process: asyncio.subprocess.Process
    name: str
    log: Path

    async def line(self) -> str:
        """Return the next line of its stdout; raises `FleetError` when it has ended."""
        assert self.process.stdout is not None  # noqa: S101 - started with a pipe
        line = await self.process.stdout.readline()
        if not line:
            await self.process.wait()
            raise FleetError(f"{self.name} ended: {tail(self.log)}", hint=f"see {self.log}")
        return line.decode(errors="replace").rstrip("\n")

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines of its stdout until it ends."""
        assert self.process.stdout is not None  # noqa: S101 - started with a pipe
        async for line in self.process.stdout:
            yield line.decode(errors="replace").rstrip("\n")

    async def finish(self) -> Finished:
        """Wait for its end, return what it printed."""
        assert self.process.stdout is not None  # noqa: S101 - started with a pipe
        output = (await self.process.stdout.read()).decode(errors="replace")
        return Finished(code=await self.process.wait(), output=output, log=self.log)

    async def end(self) -> None:
        """Ask it to end; make it, when it does not in time."""
        if self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self.process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Cut its power."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@dataclass(slots=True, kw_only=True)
class Programs:
    """Starts programs, with a log for each in one folder."""

    logs: Path
    running: list[Running] = field(default_factory=list)

    async def start(self, *words: str | Path, name: str, stdin: str | None = None) -> Running:
        """Start a program; `stdin` is all that it gets there."""
        log = self.logs / f"{name}.log"
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *map(str, words),
                stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=_environment(),
            )
        if stdin is not None and process.stdin is not None:
            process.stdin.write(stdin.encode())
            process.stdin.close()
        program = Running(process=process, name=name, log=log)
        self.running.append(program)
        return program

    async def run(
        self, *words: str | Path, name: str, stdin: str | None = None, code: int | None = 0
    ) -> Finished:
        """Run a program to its end; raises `FleetError` when its exit code is not the expected one."""
        done = await (await self.start(*words, name=name, stdin=stdin)).finish()
        if code is not None and done.code != code:
            raise FleetError(
                f"{name} ended with {done.code} instead of {code}: {tail(done.log)}", hint=f"see {done.log}"
            )
        return done


@asynccontextmanager
async def programs(logs: Path) -> AsyncIterator[Programs]:
    """Have programs; the last one started is ended first."""
    started = Programs(logs=logs)
    try:
        yield started
    finally:
        for program in reversed(started.running):
            await program.end()


def command(name: str) -> Path:
    """Return one of our own commands: of this installation, not whatever is found first on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FleetError(
            f"the command {name} is not installed", hint="pipx install fleet-provisioning[server]"
        )
    return Path(found)


def tail(log: Path) -> str:
    """Return the last words of a log, in one line."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return " ".join(" ".join(lines[-5:]).split())[-_TAIL_CHARACTERS:] or "it said nothing"


def _environment() -> Mapping[str, str]:
    ours = {"FLEET_HOME", "DEVICE_AGENT_STATE"}
    return {name: value for name, value in os.environ.items() if name not in ours} | {"NO_COLOR": "1"}
