"""What a station's screen knows: each lane as it stands, what was made, and how fast. It draws nothing."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fleet.cli.screen.language import Mark
from fleet.station.link.causes import Cause
from fleet.station.telling.book import Kind
from fleet.station.telling.events import LaneEvent, Stage

RATE_SECONDS = 300.0
"""The rate is that of the last five minutes."""
_BUCKET_SECONDS = 5.0
STAYS_SECONDS = 6.0
"""A worker who pulls a unit and then looks up still sees what became of it."""

_MARKS: Mapping[Stage, Mark] = {
    Stage.WAITING: Mark.READY,
    Stage.FOUND: Mark.BUSY,
    Stage.KEYED: Mark.BUSY,
    Stage.ISSUED: Mark.BUSY,
    Stage.WRITING: Mark.BUSY,
    Stage.INSTALLED: Mark.BUSY,
    Stage.PROVEN: Mark.BUSY,
    Stage.COMMITTED: Mark.PASS,
    Stage.SYNCED: Mark.PASS,
    Stage.HELD: Mark.WAIT,
    Stage.QUARANTINED: Mark.FAIL,
    Stage.FAILED: Mark.FAIL,
    Stage.UNPLUGGED: Mark.GONE,
}
_BY_CAUSE: Mapping[tuple[Stage, Cause], Mark] = {
    (Stage.WAITING, Cause.NO_PORT): Mark.GONE,
    (Stage.WAITING, Cause.PORT_IN_USE): Mark.FAIL,
    (Stage.WAITING, Cause.BAD_CABLE): Mark.FAIL,
    (Stage.WAITING, Cause.OTHER_FIRMWARE): Mark.FAIL,
    (Stage.COMMITTED, Cause.MADE_BEFORE): Mark.DONE,
    (Stage.SYNCED, Cause.MADE_BEFORE): Mark.DONE,
}
ENDS = frozenset({Mark.PASS, Mark.FAIL, Mark.DONE})
"""A lane whose unit may be taken out."""


def mark_of(event: LaneEvent) -> Mark:
    """Return the large word of a lane where this happened last."""
    return _BY_CAUSE.get((event.stage, event.cause), _MARKS[event.stage])


@dataclass(slots=True, kw_only=True)
class LaneView:
    """One lane. `began` is when its unit was found, in seconds of a clock that never goes back."""

    number: int
    event: LaneEvent
    began: float
    end: LaneEvent | None = None
    """How the visit before ended, and when."""
    ended_at: float = 0.0

    @property
    def mark(self) -> Mark:
        return mark_of(self.event)

    def seconds(self, now: float) -> float | None:
        """Return how long its unit is being made, or took; None where there is none."""
        if self.mark in (Mark.READY, Mark.GONE):
            return None
        return (
            self.event.elapsed_ms / 1000 if self.mark in ENDS and self.event.elapsed_ms else now - self.began
        )


@dataclass(slots=True)
class Board:
    """All lanes of a station, numbered in the order in which they came."""

    lanes: dict[str, LaneView] = field(default_factory=dict)
    passed: int = 0
    notice: str = ""
    """What the scanner said last."""
    waiting: dict[Kind, int] = field(default_factory=dict)
    """Jobs that were not delivered yet."""
    problems: dict[Kind, str] = field(default_factory=dict)
    """Why, as whoever mends the station reads it; empty where nothing is wrong."""
    _failing: dict[str, str] = field(default_factory=dict)
    _buckets: "deque[tuple[float, int]]" = field(default_factory=deque)

    @property
    def failed(self) -> int:
        """Units that failed and were not made since."""
        return len(self._failing)

    @property
    def yield_percent(self) -> float | None:
        """Units that passed among all that ended; None before the first."""
        ended = self.passed + self.failed
        return 100 * self.passed / ended if ended else None

    def a_minute(self, now: float) -> float:
        """Return how many units passed in a minute, of late."""
        while self._buckets and self._buckets[0][0] < now - RATE_SECONDS:
            self._buckets.popleft()
        if not self._buckets:
            return 0.0
        since = max(now - self._buckets[0][0], _BUCKET_SECONDS)
        return 60 * sum(count for _, count in self._buckets) / since

    def take(self, event: LaneEvent, *, now: float) -> None:
        """Note what happened on a lane."""
        lane = self.lanes.get(event.port)
        if lane is None:
            number = event.lane or len(self.lanes) + 1
            lane = self.lanes[event.port] = LaneView(number=number, event=event, began=now)
        elif event.stage is Stage.FOUND and lane.event.stage is not Stage.FOUND:
            lane.began = now
        self._count(event, now)
        if event.label and event.label in self.notice:
            self.notice = ""  # the unit is there, nobody is to plug it in
        lane.event = event
        if lane.mark in ENDS:
            lane.end, lane.ended_at = event, now

    def views(self, now: float) -> list[LaneView]:
        """Return the lanes as they are shown: the word of a unit that was taken out at once stays a while."""
        return [
            replace(lane, event=lane.end)
            if lane.end and lane.mark is Mark.READY and now - lane.ended_at < STAYS_SECONDS
            else lane
            for lane in self.lanes.values()
        ]

    def _count(self, event: LaneEvent, now: float) -> None:
        unit = event.hardware_id or event.port
        match event.stage:
            case Stage.SYNCED if event.cause is not Cause.MADE_BEFORE:
                self._failing.pop(unit, None)
                self.passed += 1
                if not self._buckets or now - self._buckets[-1][0] >= _BUCKET_SECONDS:
                    self._buckets.append((now, 0))
                began, count = self._buckets[-1]
                self._buckets[-1] = (began, count + 1)
            case Stage.QUARANTINED | Stage.FAILED if event.hardware_id:
                self._failing[unit] = event.detail
            case _:
                pass
