"""Tells systemd's watchdog that the agent lives: only while its event loop turns and its driver comes along.

A loop that hangs sends nothing, because it is the loop that sends. A driver that hangs in one that turns is
found by its pulse: each time it says by when it will be heard of next. Without a ping, systemd restarts the
service (sd_watchdog_enabled(3)); an identity is kept over that as over a power cut.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from time import monotonic

from device_agent.notify import notify

_log = logging.getLogger(__name__)

LONGEST_ROUND = timedelta(minutes=10)
"""More than every way to every server takes, one after the other, each up to its time-out."""
_SLACK = timedelta(minutes=1)
_PING = "WATCHDOG=1"


class Pulse:
    """By when a driver will be heard of next; `clock` gives seconds that nobody can set."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._due = clock() + LONGEST_ROUND.total_seconds()

    def works(self) -> None:
        """Say that it goes to work, on one round."""
        self._due = self._clock() + LONGEST_ROUND.total_seconds()

    def rests(self, length: timedelta) -> None:
        """Say that it rests for so long at most."""
        self._due = self._clock() + (length + _SLACK).total_seconds()

    def beats(self) -> bool:
        """Tell whether it has been heard of in time."""
        return self._clock() < self._due


def interval_of(environment: Mapping[str, str], *, pid: int) -> timedelta | None:
    """Return how often systemd is to be told, twice in the time that it waits; None where it does not."""
    wanted, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
    if not wanted.isascii() or not wanted.isdecimal() or int(wanted) == 0 or whose != str(pid):
        return None
    return timedelta(microseconds=int(wanted)) / 2


async def ping(environment: Mapping[str, str], *, beats: Callable[[], bool]) -> None:
    """Ping as long as `beats`, until cancelled; returns at once where nobody waits for it."""
    interval, was_alive = interval_of(environment, pid=os.getpid()), True
    while interval is not None:
        is_alive = beats()
        if is_alive:
            notify(_PING, environment)
        elif was_alive:
            _log.error("no progress is made any more; systemd will start this service anew")
        was_alive = is_alive
        await asyncio.sleep(interval.total_seconds())
