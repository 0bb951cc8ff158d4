"""Tells a device's state again where the server has set something new, or wants to hear of it so often."""

from datetime import timedelta
from time import monotonic

from device_agent.asking import Asking
from device_agent.signals import Signals
from device_agent.wire.pace import LONGEST_WAIT

_LONGEST_REST = timedelta(hours=1)
"""A clock may be set while we sleep; so often we look."""


class Reporting:
    """What settings of the server change of a driver's pace. Used by the task that owns the connection."""

    def __init__(self, asking: Asking, signals: Signals) -> None:
        self._asking, self._signals = asking, signals
        self._told, self._told_at = 0, monotonic()

    async def tell(self) -> None:
        """Tell the state, if that is due."""
        configured, every = self._signals.configured, self._signals.settings.report_seconds
        is_due = every is not None and monotonic() >= self._told_at + every
        if is_due or configured != self._told:
            self._told, self._told_at = configured, monotonic()
            await self._asking.report()

    @property
    def longest_rest(self) -> timedelta:
        """How long may be rested at most."""
        every = self._signals.settings.report_seconds
        return _LONGEST_REST if every is None else min(timedelta(seconds=every), _LONGEST_REST)

    @property
    def longest_wait(self) -> timedelta:
        """How long may be waited at most after a failure."""
        most = self._signals.settings.longest_wait_seconds
        return LONGEST_WAIT if most is None else timedelta(seconds=most)
