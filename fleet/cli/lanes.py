"""What people see of a station at work: a screen with a line for each port, or plain lines in a pipe.

It only shows; a lane never waits for it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from fleet.cli.output import Form, Json, console, visible, write_line, write_text
from fleet.station.events import LaneEvent, Stage

if TYPE_CHECKING:
    from rich.table import Table

Report: TypeAlias = Callable[[LaneEvent], None]

_BAR = 12
_SCREENS_A_SECOND = 8
_STYLES: Mapping[Stage, str] = {
    Stage.WAITING: "dim",
    Stage.SYNCED: "bold green",
    Stage.COMMITTED: "green",
    Stage.HELD: "yellow",
    Stage.QUARANTINED: "bold red",
    Stage.FAILED: "red",
    Stage.UNPLUGGED: "dim",
}


@dataclass(slots=True, kw_only=True)
class _Line:
    """One port on the screen."""

    event: LaneEvent
    began: float
    passed: int = 0
    failed: int = 0


@dataclass(slots=True)
class Tally:
    """What a station did, port by port."""

    lines: dict[str, _Line] = field(default_factory=dict)

    def take(self, event: LaneEvent, *, now: float) -> None:
        """Note an event; `now` is in seconds, of a clock that never goes back."""
        line = self.lines.setdefault(event.port, _Line(event=event, began=now))
        if event.stage is Stage.FOUND and line.event.stage is not Stage.FOUND:
            line.began = now
        line.passed += event.stage is Stage.SYNCED
        line.failed += event.stage in {Stage.QUARANTINED, Stage.FAILED}
        line.event = event

    @property
    def passed(self) -> int:
        return sum(line.passed for line in self.lines.values())

    @property
    def failed(self) -> int:
        return sum(line.failed for line in self.lines.values())


@contextmanager
def shown(form: Form, *, live: bool) -> Iterator[tuple[Report, Tally]]:
    """Show what a station reports: JSON lines, a live screen, or a line for each step."""
    tally = Tally()
    if form is not Form.TABLE or not live:
        write = _write_json if form is not Form.TABLE else _Lines().write

        def report(event: LaneEvent) -> None:
            tally.take(event, now=time.monotonic())
            write(event)

        yield report, tally
        return
    with _screen(tally) as refresh:
        yield refresh, tally


@contextmanager
def _screen(tally: Tally) -> Iterator[Report]:
    from rich.console import Group  # noqa: PLC0415 - as above
    from rich.live import Live  # noqa: PLC0415 - only a terminal needs it
    from rich.text import Text  # noqa: PLC0415 - as above

    def draw() -> Group:
        # The last line stands beside the table: as its caption it would be as narrow as the table.
        return Group(_table(tally, now=time.monotonic()), Text(_last_line(tally)))

    with Live(get_renderable=draw, console=console(), refresh_per_second=_SCREENS_A_SECOND):
        yield lambda event: tally.take(event, now=time.monotonic())


def _table(tally: Tally, *, now: float) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - only a terminal needs it
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("PORT", "STATE", "DEVICE", "STEP", "TIME", "PASS", "FAIL"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for port, line in sorted(tally.lines.items()):
        event = line.event
        idle = event.stage in {Stage.WAITING, Stage.UNPLUGGED}
        seconds = event.elapsed_ms / 1000 or now - line.began
        table.add_row(
            Text(visible(port)),
            Text(event.stage.value, style=_STYLES.get(event.stage, "cyan")),
            Text(visible(event.device_id or event.hardware_id)),
            Text(_step(event)),
            "" if idle else f"{seconds:.1f} s",
            str(line.passed),
            str(line.failed),
        )
    return table


def _last_line(tally: Tally) -> str:
    return (
        f"{tally.passed} passed, {tally.failed} failed. Plug a device in, it is served at once. Ctrl-C ends."
    )


def _step(event: LaneEvent) -> str:
    if event.total:
        filled = _BAR * event.done // event.total
        return f"{'█' * filled}{'░' * (_BAR - filled)} {event.done}/{event.total} B"
    return visible(event.detail)


@dataclass(slots=True)
class _Lines:
    """Plain lines: one for each change of a stage, not for each chunk."""

    last: dict[str, tuple[Stage, str]] = field(default_factory=dict)

    def write(self, event: LaneEvent) -> None:
        if self.last.get(event.port) == (event.stage, event.detail):
            return
        self.last[event.port] = (event.stage, event.detail)
        words = [event.port, event.stage.value, event.device_id or event.hardware_id or "-", event.detail]
        write_text(visible("  ".join(word for word in words if word)))


def _write_json(event: LaneEvent) -> None:
    members: dict[str, Json] = asdict(event)
    write_line(members)
