"""Tells other programs of this device that its identity has changed: every file of `post-renew.d/` is run.

A hook runs after `current/` is in place, again until it has succeeded, and perhaps once more after a power
cut: it must not mind. What goes wrong in a hook is logged and stops nothing.
"""

import asyncio
import contextlib
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from device_agent.errors import StateError
from device_agent.files import read_file, remove_file, write_file

PATIENCE = timedelta(seconds=60)
"""A hook that takes longer is killed, and counts as failed."""
DONE = "hooks.done"

_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_DONE = 64 * 1024
_NOBODY_ELSE_WRITES = stat.S_IWGRP | stat.S_IWOTH

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the hooks are told of: `current/` holds this now."""

    generation: str
    """Name of the folder behind `current`; another one for each change."""
    serial: str
    """Of the certificate in use."""
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """Which hooks have succeeded, of which change; `serial` is the certificate's."""

    generation: str = ""
    serial: str = ""
    event: str = ""
    names: frozenset[str] = frozenset()


class Hooks:
    """The hooks of one state folder. `folder` is where they are; it need not be there."""

    def __init__(
        self,
        state: Path,
        folder: Path,
        *,
        patience: timedelta = PATIENCE,
        wrote: Callable[[int], None] = lambda _length: None,
    ) -> None:
        self._marker, self._patience, self._wrote = state / DONE, patience, wrote
        self._folder = folder.absolute()  # hooks are run in another one
        self._change: Change | None = None
        self._bell = asyncio.Event()

    def tell(self, change: Change) -> None:
        """Have the hooks run for a change, soon; what they were told before is out of date."""
        self._change = change
        self._bell.set()

    def forget(self) -> None:
        """Forget what was run: a new identity is told as a first one."""
        remove_file(self._marker)

    async def tell_end(self, environment: Mapping[str, str]) -> None:
        """Run every hook once, for an identity that is gone; what fails is logged."""
        self._change = None
        for path in _found(self._folder):
            await self._succeeds(path, {**environment, "DEVICE_AGENT_EVENT": "reset"})

    async def run(self) -> None:
        """Run hooks whenever something has changed, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            is_done = await self.catch_up()
            pause = _FIRST_PAUSE if is_done or self._bell.is_set() else min(pause * 2, _LONGEST_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_done else pause.total_seconds()):
                    await self._bell.wait()

    async def catch_up(self) -> bool:
        """Run what has not succeeded for the last change yet; tell whether all of it has now."""
        self._bell.clear()
        change = self._change
        if change is None:
            return True
        try:
            return await self._catch_up(change)
        except StateError as error:
            _log.warning("%s; the hooks are run again", error)
            return False

    async def _catch_up(self, change: Change) -> bool:
        done = self._begun(change)
        names = set(done.names)
        environment = {**change.environment, "DEVICE_AGENT_EVENT": done.event}
        waiting = [path for path in _found(self._folder) if path.name not in names]
        for path in waiting:
            if await self._succeeds(path, environment):
                names.add(path.name)
                self._write(replace(done, names=frozenset(names)))
        return all(path.name in names for path in waiting)

    def _begun(self, change: Change) -> _Done:
        """Return how far a change has come; what it is, is settled when it is first seen."""
        before = _read(self._marker)
        if before.generation == change.generation:
            return before
        event = "renewed" if before.serial != change.serial else "trust"
        begun = _Done(
            generation=change.generation, serial=change.serial, event=event if before.serial else "enrolled"
        )
        self._write(begun)
        return begun

    async def _succeeds(self, path: Path, environment: Mapping[str, str]) -> bool:
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                env={"PATH": os.defpath, **environment},
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr,  # what it says stands in the agent's log
                start_new_session=True,
            )
        except OSError as error:
            _log.warning("the hook %s cannot be started: %s", path, os.strerror(error.errno or 0).lower())
            return False
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                code = await process.wait()
        except TimeoutError:
            _log.warning("the hook %s was not done after %.0f s", path, self._patience.total_seconds())
            return False
        finally:
            await _kill(process)
        if code != 0:
            _log.warning("the hook %s failed with %d", path, code)
        return code == 0

    def _write(self, done: _Done) -> None:
        lines = (done.generation, done.serial, done.event, *sorted(done.names))
        content = "\n".join(lines).encode()
        write_file(self._marker, content)
        self._wrote(len(content))


def waiting_hooks(state: Path, folder: Path) -> tuple[str, ...] | None:
    """Return which hooks have not succeeded since the identity changed last; None where there are none.

    It is for a look from outside: another process may be at them.
    """
    names = [path.name for path in _found(folder)]
    done = _read(state / DONE).names
    return tuple(name for name in names if name not in done) if names else None


def _found(folder: Path) -> list[Path]:
    """Return what is to be run, in the order of names, as run-parts(8) has it."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in found if not path.name.startswith(".") and _is_fit(path)]


def _read(marker: Path) -> _Done:
    content = read_file(marker, most=_LONGEST_DONE) or b""
    lines = content.decode(errors="replace").split("\n")
    if len(lines) < 3:
        return _Done()
    generation, serial, event, *names = lines
    return _Done(generation=generation, serial=serial, event=event, names=frozenset(filter(None, names)))


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a hook, with all that it has started, if it still runs."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _is_fit(path: Path) -> bool:
    """Tell whether a file may be run: nobody but root and this user can have written it."""
    try:
        found = path.stat()
    except OSError:
        return False
    if not stat.S_ISREG(found.st_mode) or not os.access(path, os.X_OK):
        return False
    if found.st_uid not in {0, os.getuid()} or found.st_mode & _NOBODY_ELSE_WRITES:
        _log.warning("the hook %s is not run: others may write it (chmod go-w, chown root)", path)
        return False
    return True
