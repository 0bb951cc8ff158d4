"""The clocks of this machine, and the one file in the state folder by which a floor outlives a restart.

It sets no clock. What may be believed stands in `core.clock`; this only reads, and writes once a day.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from device_agent.core import clock as core
from device_agent.core import floor
from device_agent.core.clock import Moment, Reading, TimeSource
from device_agent.core.stored import StoredRecord
from device_agent.errors import StateError
from device_agent.files import read_file, remove_file, temporary_of, write_file
from device_agent.kernel_clock import is_synchronised
from device_agent.released import RELEASED
from device_agent.wire.fields import time_text
from device_agent.wire.problems import MalformedMessageError

_log = logging.getLogger(__name__)

CLOCK = "clock"
"""The file."""
_KEPT_EVERY = timedelta(days=1)
_ASKED_EVERY = timedelta(days=1)


def now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)


def elapsed() -> timedelta:
    """Return how long ago this machine booted; nobody can set that, and sleep counts."""
    return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True, slots=True)
class GivenClock:
    """A clock that somebody vouches for: a program that knows the time by itself."""

    clock: Callable[[], datetime] = now

    def __call__(self) -> datetime:
        return self.clock()

    def moment(self) -> Moment:
        """Return its time, which is believed as it is."""
        given = self.clock()
        return Moment(now=given, source=TimeSource.SYSTEM, since=given, floor=RELEASED)

    def is_due(self) -> bool:
        """Nobody need be asked."""
        return False

    def hear(self, told: datetime) -> None:
        """Change nothing."""

    def at_least(self, floor: datetime) -> None:
        """Change nothing."""


def looked(folder: Path, record: StoredRecord) -> Moment:
    """Return the time that an agent would believe at its start; nothing is written."""
    system = now()
    reading = Reading(system=system, elapsed=elapsed(), is_synchronised=is_synchronised(system))
    active = record.life.active
    floors = (RELEASED, _read(folder / CLOCK), None if active is None else active.not_before)
    belief = core.started(max(each for each in floors if each is not None), reading)
    return core.moment(belief, reading)


def forget_floor(folder: Path) -> None:
    """Let go of the time that was kept, for a factory reset; raises `StateError`."""
    remove_file(temporary_of(folder / CLOCK))
    remove_file(folder / CLOCK)


class DeviceClock:
    """What time it is on a device whose clock may be anything."""

    def __init__(
        self,
        folder: Path,
        *,
        system: Callable[[], datetime] = now,
        elapsed: Callable[[], timedelta] = elapsed,
        is_synchronised: Callable[[datetime], bool] = is_synchronised,
        wrote: Callable[[int], None] = lambda _length: None,
    ) -> None:
        self._path, self._system, self._elapsed = folder / CLOCK, system, elapsed
        self._is_synchronised, self._wrote = is_synchronised, wrote
        self._kept = _read(self._path)
        self._belief = core.started(max(RELEASED, self._kept or RELEASED), self._read_clocks())
        self._told: TimeSource | None = None

    def __call__(self) -> datetime:
        return self.moment().now

    def moment(self) -> Moment:
        """Return the time that is believed now."""
        reading = self._read_clocks()
        self._belief = core.looked(self._belief, reading)
        found = core.moment(self._belief, reading)
        self._tell(found, reading)
        return found

    def is_due(self) -> bool:
        """Tell whether the server is to be asked: not since the start of this process, or for a day."""
        since = self._elapsed() - self._belief.elapsed
        return self._belief.source is not TimeSource.SIGNED or since >= _ASKED_EVERY

    def hear(self, told: datetime) -> None:
        """Take a time whose signature was found right.

        Raises:
            UntrustedTimeError: it is below the floor.
        """
        self._belief = core.heard(self._belief, told, self._read_clocks())
        self._keep()

    def at_least(self, floor: datetime) -> None:
        """Raise the floor to when a certificate begins that was accepted."""
        self._belief = core.raised(self._belief, floor, self._read_clocks())

    def _read_clocks(self) -> Reading:
        system = self._system()
        return Reading(system=system, elapsed=self._elapsed(), is_synchronised=self._is_synchronised(system))

    def _keep(self) -> None:
        """Write the floor where a day or more is new; flash wears."""
        floor_now = self._belief.floor
        if self._kept is not None and floor_now - self._kept < _KEPT_EVERY:
            return
        try:
            write_file(self._path, floor.encode(floor_now))
            self._wrote(len(floor.encode(floor_now)))
            self._kept = floor_now
        except StateError as error:
            _log.warning("%s; the time is not known after a restart", error)

    def _tell(self, found: Moment, reading: Reading) -> None:
        before, self._told = self._told, found.source
        if before is found.source:
            return
        if found.source is TimeSource.SYSTEM:
            if before is not None:
                _log.info("the system's clock is believed again, %s", time_text(found.now))
            return
        if before is None and found.source is TimeSource.FLOOR and reading.system >= found.now:
            # Nothing speaks against it, nothing for it: the first signed time tells.
            self._told = None
            return
        _log.warning(
            "the system's clock, %s, is not believed; by %s it is %s",
            time_text(reading.system),
            found.source.words,
            found.words,
        )


def _read(path: Path) -> datetime | None:
    try:
        content = read_file(path, most=floor.MAX_FLOOR_BYTES)
        return None if content is None else floor.decode(content)
    except (StateError, MalformedMessageError) as error:
        _log.warning("%s; other floors hold", error)
        return None
