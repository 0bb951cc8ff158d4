"""Plays the demo: its steps in their order, each with a time limit, and the closing table.

Whatever fails, all that was started is ended, and the logs stay.
"""

import asyncio
import shlex
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.cli.demo import ending, factory, founding, network, refusals, work
from fleet.cli.demo.programs import command, programs
from fleet.cli.demo.progress import Progress
from fleet.cli.demo.scene import Scene
from fleet.cli.output import Column, Form, Members, say_error, show_list, write_text
from fleet.errors import BadInputError, ExitCode, FleetError, RefusedError

_STEP_SECONDS = 60.0
_REAL_DEVICE_SECONDS = 300.0
_COLUMNS = (
    Column(title="STEP", member="step"),
    Column(title="RESULT", member="result"),
    Column(title="SECONDS", member="seconds"),
    Column(title="PROVED", member="proved", whole=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How the demo is to be played."""

    keep: Path | None
    port: str | None
    form: Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step; `act` does it and returns what it proved."""

    title: str
    act: Callable[[Scene], Awaitable[str]]
    seconds: float = _STEP_SECONDS


STEPS = (
    Step(title="make a fleet", act=founding.make_home),
    Step(title="start server and broker", act=founding.start_server),
    # The first time, cargo builds the firmware of the microcontroller.
    Step(title="factory line over serial", act=factory.enroll_by_serial, seconds=180.0),
    Step(title="bootstrap over the network", act=network.enroll_by_network),
    Step(title="connect with mTLS", act=work.connect_all),
    Step(title="refuse impostors", act=refusals.refuse_impostors),
    Step(title="rotate all certificates", act=work.rotate_all),
    Step(title="revoke one device", act=ending.revoke_one),
    Step(title="check the audit trail", act=ending.check_audit),
)


async def play(wishes: Wishes) -> int:
    """Play all steps; return the exit code. A step that failed has been told by then.

    Raises:
        FleetError: it cannot begin.
    """
    if wishes.port is not None and not factory.is_port(wishes.port):
        raise BadInputError(
            f"{wishes.port} is no serial port", hint="plug the device in, or leave --port out"
        )
    began = time.monotonic()
    with _folder(wishes.keep) as folder:
        results = await _play_all(folder, wishes.port)
        show_list(results, wishes.form, columns=_COLUMNS)
        failed = next((one for one in results if one["result"] != "ok"), None)
        if failed is not None:
            say_error(
                f"{failed['step']}: {failed['proved']}", f"the logs are in {_kept(folder, wishes.keep)}"
            )
            return ExitCode.FAILED
    if wishes.form is Form.TABLE:
        write_text("\n".join(last_words(time.monotonic() - began, wishes.keep)))
    return ExitCode.DONE


async def _play_all(folder: Path, port: str | None) -> list[Members]:
    """Play the steps until one fails; return a row for each that was played."""
    progress = Progress(len(STEPS))
    results: list[Members] = []
    logs = folder / "logs"
    logs.mkdir()
    (folder / "devices").mkdir()
    async with AsyncExitStack() as last, programs(logs) as started, AsyncExitStack() as stack:
        scene = Scene(folder=folder, programs=started, stack=stack, tell=progress.tell, port=port)
        last.push_async_callback(founding.end_broker, scene.home)
        for step in STEPS:
            with progress.step(step.title):
                row = await _play(step, scene)
            results.append(row)
            progress.done(row)
            if row["result"] != "ok":
                break
    return results


async def _play(step: Step, scene: Scene) -> Members:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_REAL_DEVICE_SECONDS if scene.port else step.seconds):
            result, proved = "ok", await step.act(scene)
    except TimeoutError:
        result, proved = "FAILED", f"not done after {time.monotonic() - began:.0f} s"
    except (FleetError, OSError, ValueError, ExceptionGroup) as error:
        result, proved = "FAILED", _sentence(error)
    return {
        "step": step.title,
        "result": result,
        "seconds": round(time.monotonic() - began, 1),
        "proved": proved,
    }


def _sentence(error: Exception) -> str:
    """Return what went wrong; of a group, what went wrong first."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    hint = f" ({error.hint})" if isinstance(error, FleetError) and error.hint else ""
    return f"{error}{hint}" if str(error) else type(error).__name__


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Have an empty folder: a new one that is kept, or one that goes away."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise RefusedError(f"{keep} is not empty", hint="name a new folder with --keep")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    # Short: a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="fleet-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kept(folder: Path, keep: Path | None) -> Path:
    """Return where the logs are; they are moved out of a folder that goes away."""
    if keep is not None:
        return folder / "logs"
    return Path(shutil.move(folder / "logs", tempfile.mkdtemp(prefix="fleet-demo-logs-")))


def last_words(seconds: float, keep: Path | None) -> list[str]:
    """Return how to go on: three commands make a fleet that stays."""
    fleet, agent = _as_typed("fleet"), _as_typed("device-agent")
    claim = "$HOME/.fleet/trust/prod/public-claim"
    options = (
        f"--mqtt localhost:8884 --device d1 --code-file - --claim {claim}.crt,{claim}.key"
        " --trust ~/.fleet/trust/server.pem"
    )
    kept = [] if keep is None else [f"the demo's fleet is in {keep}"]
    return [
        "",
        f"all of it took {seconds:.0f} s",
        *kept,
        "",
        "a fleet that stays, in three commands (the second one in a terminal of its own):",
        f"  {fleet} init",
        f"  {fleet} serve",
        f"  {fleet} claim create --device d1 --code-only | {agent} --state ./d1 enroll {options}",
    ]


def _as_typed(name: str) -> str:
    """Return a command as a person would have to type it here."""
    path = command(name)
    found = shutil.which(name)
    if found is not None and Path(found).resolve() == path.resolve():
        return name
    near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.quote(str(near))
