"""Draws a board for a terminal of any size: few lanes large, many small, and pages where even that is much.

It returns lines and sends nothing. Every word is there without its colour too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeAlias

from rich.cells import cell_len
from rich.text import Text

from fleet.cli.output import visible
from fleet.cli.screen.board import Board, LaneView
from fleet.cli.screen.language import Language, Mark
from fleet.station.link.causes import Cause
from fleet.station.telling.book import Kind
from fleet.station.telling.dots import half_blocks, has_letters_for

Lines: TypeAlias = list[Text]

PAGE_SECONDS = 6.0
STYLES: Mapping[Mark, str] = {
    Mark.READY: "bold",
    Mark.BUSY: "bold white on blue",
    Mark.PASS: "bold white on green",
    Mark.FAIL: "bold white on red",
    Mark.WAIT: "bold black on yellow",
    Mark.DONE: "bold black on cyan",
    Mark.GONE: "dim",
}
_LARGE_WIDTH, _LARGE_HEIGHT, _MOST_LARGE_HEIGHT = 38, 9, 12
_ROW_WIDTH = 76
_CELL_WIDTH = 10
_LEAST_ATTENTION = 3
_BAR = 10
_FRAME_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Where a board is drawn: cells of the terminal, and the time that is shown."""

    width: int
    height: int
    now: float


def draw(board: Board, language: Language, sheet: Sheet, *, station: str) -> Lines:
    """Return the whole screen, at most as many lines as the sheet is high."""
    lanes = board.views(sheet.now)
    troubles = [visible(text) for _, text in sorted(board.problems.items()) if text]
    room = max(1, sheet.height - _FRAME_LINES - len(troubles))
    body = _large(lanes, language, sheet, room) or _rows(lanes, language, sheet, room)
    head = _across(language.say("title", station=station), language.say("keys"), sheet.width)
    screen = [head, *(body or _grid(lanes, language, sheet, room)), *_foot(board, language, sheet)]
    screen += [fit(text, sheet.width, "bold yellow") for text in troubles]
    return screen[: sheet.height]


def _foot(board: Board, language: Language, sheet: Sheet) -> Lines:
    good = board.yield_percent
    totals = language.say(
        "totals",
        passed=board.passed,
        failed=board.failed,
        **{"yield": "-" if good is None else f"{good:.1f} %"},
        rate=f"{board.a_minute(sheet.now):.1f}",
    )
    labels = board.waiting.get(Kind.LABEL, 0)
    results = sum(board.waiting.values()) - labels
    queues = language.say("queues", results=results, labels=labels)
    below = _across(visible(board.notice), queues if results or labels else "", sheet.width)
    return [fit(totals, sheet.width, "bold reverse"), below]


def _large(lanes: Sequence[LaneView], language: Language, sheet: Sheet, room: int) -> Lines:
    """Return the lanes with their word in large letters; nothing where they have no room."""
    across = min(len(lanes), sheet.width // _LARGE_WIDTH)
    if across == 0 or -(-len(lanes) // across) * _LARGE_HEIGHT > room:
        return []
    height = min(room // -(-len(lanes) // across), _MOST_LARGE_HEIGHT)
    width = sheet.width // across
    lines: Lines = []
    for at in range(0, len(lanes), across):
        cells = [_panel(lane, language, sheet.now, (width - 1, height)) for lane in lanes[at : at + across]]
        lines += [Text(" ").join(row) for row in zip(*cells, strict=True)]
    return lines


def _panel(lane: LaneView, language: Language, now: float, size: tuple[int, int]) -> Lines:
    width, height = size
    event = lane.event
    title = f"{language.say('lane', number=lane.number)}  {visible(PurePath(event.port).name)}"
    lines = [_across(title, visible(event.label), width, "reverse"), *_banner(lane.mark, language, width)]
    lines.append(_across(visible(event.device_id or event.hardware_id), _time(lane, now), width, "bold"))
    lines.append(fit(_step(lane, language), width))
    style = _advice_style(lane.mark)
    # What nobody has to act on is said above, in the worker's language.
    advice = Text(language.cause(event.cause) or (visible(event.detail) if style else ""), style=style)
    lines += [fit(line, width) for line in _wrapped(advice, width)]
    return [*lines, *[fit("", width)] * height][:height]


def _banner(mark: Mark, language: Language, width: int) -> Iterator[Text]:
    word = language.mark(mark)
    drawn = half_blocks(word) if has_letters_for(word) else ("", "  ".join(word), "", "")
    for line in drawn:
        yield _centred(line, width, STYLES[mark])


def _rows(lanes: Sequence[LaneView], language: Language, sheet: Sheet, room: int) -> Lines:
    """Return a line for each lane; nothing where they have no room."""
    across = max(1, sheet.width // _ROW_WIDTH)
    width = sheet.width // across
    if len(lanes) > room * across or width < _ROW_WIDTH // 2:
        return []
    drawn = [_row(lane, language, sheet.now, width - 1) for lane in lanes]
    return [Text(" ").join(drawn[at : at + across]) for at in range(0, len(drawn), across)]


def _row(lane: LaneView, language: Language, now: float, width: int) -> Text:
    event = lane.event
    row = Text(f"{lane.number:>3} ")
    row.append_text(_centred(language.mark(lane.mark), 8, STYLES[lane.mark]))
    row.append_text(fit(f" {visible(event.device_id or event.hardware_id or PurePath(event.port).name)}", 20))
    row.append_text(fit(f" {_time(lane, now)}", 8))
    row.append(" ")
    words = language.cause(event.cause) or _step(lane, language)
    row.append(words, style=_advice_style(lane.mark))
    return fit(row, width)


def _grid(lanes: Sequence[LaneView], language: Language, sheet: Sheet, room: int) -> Lines:
    """Return a small cell for each lane, and below them in words those that need somebody."""
    across = max(1, sheet.width // _CELL_WIDTH)
    deep = max(1, min(-(-len(lanes) // across), room - _LEAST_ATTENTION - 1))
    pages = -(-len(lanes) // (across * deep))
    page = int(sheet.now / PAGE_SECONDS) % max(1, pages)
    shown = lanes[page * across * deep : (page + 1) * across * deep]
    lines: Lines = []
    for at in range(0, len(shown), across):
        cells = [_cell(lane, language) for lane in shown[at : at + across]]
        lines.append(fit(Text("").join(cells), sheet.width))
    where = language.say("page", page=page + 1, pages=pages) if pages > 1 else ""
    needing = [lane for lane in lanes if lane.mark in (Mark.FAIL, Mark.WAIT)]
    lines.append(_across(f"{language.say('attention')}: {len(needing)}", where, sheet.width, "bold"))
    left = max(0, room - len(lines))
    start = int(sheet.now / PAGE_SECONDS) * left % len(needing) if len(needing) > left else 0
    around = (*needing[start:], *needing[:start])
    return (lines + [_row(lane, language, sheet.now, sheet.width) for lane in around[:left]])[:room]


def _cell(lane: LaneView, language: Language) -> Text:
    cell = Text(f"{lane.number:>3} ")
    cell.append_text(_centred(language.short(lane.mark), 5, STYLES[lane.mark]))
    cell.append(" ")
    return cell


def _step(lane: LaneView, language: Language) -> str:
    event = lane.event
    words = "" if event.cause is Cause.NO_PORT else language.stage(event.stage)
    if lane.mark is not Mark.BUSY or not event.total:
        return words
    filled = _BAR * event.done // event.total
    return f"{'█' * filled}{'░' * (_BAR - filled)} {words}"


def _time(lane: LaneView, now: float) -> str:
    seconds = lane.seconds(now)
    return "" if seconds is None else f"{seconds:.1f} s"


def _advice_style(mark: Mark) -> str:
    return {Mark.FAIL: "bold red", Mark.WAIT: "bold yellow"}.get(mark, "")


def fit(text: str | Text, width: int, style: str = "") -> Text:
    """Return text that takes just so many cells: cut with an ellipsis, or filled up."""
    fitted = Text(text, style=style) if isinstance(text, str) else text.copy()
    fitted.truncate(width, overflow="ellipsis", pad=True)
    return fitted


def _centred(text: str, width: int, style: str) -> Text:
    before = max(0, (width - cell_len(text)) // 2)
    return fit(" " * before + text, width, style)


def _across(left: str, right: str, width: int, style: str = "") -> Text:
    """Return a line with something at each end; the right end gives way."""
    gap = width - cell_len(left) - cell_len(right)
    return fit(f"{left}{' ' * gap}{right}" if gap > 0 else left, width, style)


def _wrapped(text: Text, width: int) -> Iterator[Text]:
    """Break at spaces, or anywhere in a script that has none."""
    line = Text(style=text.style)
    for word in _words(text.plain):
        if line.cell_len and line.cell_len + cell_len(word.rstrip()) > width:
            yield line
            line = Text(style=text.style)
        line.append(word)
    yield line


def _words(text: str) -> Iterator[str]:
    for word in text.split(" "):
        if cell_len(word) > len(word):
            yield from word
        else:
            yield f"{word} "
