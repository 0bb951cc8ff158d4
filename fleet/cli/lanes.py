"""How a station's work is shown: JSON lines for programs, plain lines in a pipe, a live screen on a terminal.

It only shows; a lane never waits for it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

from fleet.cli.output import Form, Json, console, say, visible, write_line, write_text
from fleet.cli.screen.board import Board
from fleet.cli.screen.language import Language
from fleet.station.link.causes import Cause
from fleet.station.telling.book import Kind
from fleet.station.telling.events import LaneEvent, Stage

Report: TypeAlias = Callable[[LaneEvent], None]

_REDRAW_SECONDS = 0.25


def _nothing(*_: object) -> None:
    """A pipe is not drawn again, and the board of a screen has every event already."""


@dataclass(slots=True, kw_only=True)
class Shown:
    """What takes the events of a station, and what was made of them."""

    language: Language
    board: Board = field(default_factory=Board)
    write: Report
    redraw: Callable[[], None]
    tell: Callable[[str], None] = _nothing
    """Says something that is of no lane; a screen shows it by itself."""

    def report(self, event: LaneEvent) -> None:
        """Take what happened on a lane."""
        self.board.take(event, now=time.monotonic())
        self.write(event)

    def say(self, key: str, **values: str | int) -> None:
        """Say something of the scanner, in the language of the line."""
        self.board.notice = self.language.say(key, **values)
        self.tell(self.board.notice)

    def count(self, kind: Kind, waiting: int, problem: str) -> None:
        """Take how many jobs of a kind were not delivered yet, and why."""
        self.board.waiting[kind] = waiting
        self.board.problems[kind] = problem

    async def refresh(self) -> None:
        """Draw again and again until cancelled."""
        while True:
            self.redraw()
            await asyncio.sleep(_REDRAW_SECONDS)


@contextmanager
def shown(form: Form, *, language: Language, station: str, live: bool) -> Iterator[Shown]:
    """Show what a station reports; `live` asks for the screen, which wants a terminal."""
    if form is not Form.TABLE:
        yield Shown(language=language, write=_write_json, redraw=_nothing, tell=say)
    elif not live:
        yield Shown(language=language, write=_Plain(language).write, redraw=_nothing, tell=say)
    else:
        with _screen(language, station) as screen:
            yield screen


@contextmanager
def _screen(language: Language, station: str) -> Iterator[Shown]:
    from rich.console import Group  # noqa: PLC0415 - only a terminal needs it
    from rich.live import Live  # noqa: PLC0415 - as above

    from fleet.cli.screen.drawing import Sheet, draw  # noqa: PLC0415 - as above

    terminal, board = console(), Board()

    def lines() -> Group:
        sheet = Sheet(width=terminal.width, height=terminal.height, now=time.monotonic())
        return Group(*draw(board, language, sheet, station=station))

    with Live(get_renderable=lines, console=terminal, auto_refresh=False, screen=True) as screen:
        yield Shown(language=language, board=board, write=_nothing, redraw=screen.refresh)


@dataclass(slots=True)
class _Plain:
    """Plain lines: one for each change of a stage, not for each chunk."""

    language: Language
    last: dict[str, tuple[Stage, Cause, str]] = field(default_factory=dict)

    def write(self, event: LaneEvent) -> None:
        news = (event.stage, event.cause, event.detail)
        if self.last.get(event.port) == news:
            return
        self.last[event.port] = news
        who = event.device_id or event.hardware_id or "-"
        words = [
            event.port,
            event.stage.value,
            who,
            event.label,
            self.language.cause(event.cause),
            event.detail,
        ]
        write_text(visible("  ".join(word for word in words if word)))


def _write_json(event: LaneEvent) -> None:
    members: Mapping[str, Json] = asdict(event)
    write_line(members)
