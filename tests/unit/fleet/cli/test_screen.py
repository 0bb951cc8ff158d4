"""The station's screen: it fits every terminal, speaks every language, and says in words what colours say."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.cli.screen.board import Board, mark_of
from fleet.cli.screen.drawing import Sheet, draw, fit
from fleet.cli.screen.language import Language, Mark, codes, own_code
from fleet.errors import UsageError
from fleet.station.link.causes import Cause
from fleet.station.telling.book import Kind
from fleet.station.telling.events import LaneEvent, Stage

ENGLISH = Language.load("en")


def event(at: int, stage: Stage, **members: object) -> LaneEvent:
    unit = {"hardware_id": f"hw-{at}", "device_id": f"spring-{at:04d}", "elapsed_ms": 1200}
    return LaneEvent(port=f"/dev/ttyUSB{at}", stage=stage, **(unit | members))  # type: ignore[arg-type]


def members_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def board_of(*stages: Stage, cause: Cause = Cause.NONE) -> Board:
    board = Board()
    for at, stage in enumerate(stages):
        board.take(event(at, Stage.FOUND), now=0.0)
        board.take(event(at, stage, cause=cause), now=1.0)
    return board


def text_of(board: Board, width: int = 80, height: int = 24, language: Language = ENGLISH) -> list[str]:
    sheet = Sheet(width=width, height=height, now=2.0)
    lines = draw(board, language, sheet, station="line3")
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    return [line.plain for line in lines]


@pytest.mark.parametrize("code", codes())
def test_each_language_has_every_text_with_the_same_members(code: str) -> None:
    language = Language.load(code)
    assert language.texts.keys() == ENGLISH.texts.keys()
    for key, text in ENGLISH.texts.items():
        assert members_of(language.texts[key]) == members_of(text), key
        assert bool(language.texts[key]) == bool(text), key


@pytest.mark.parametrize("code", codes())
def test_each_language_knows_every_mark_stage_and_cause(code: str) -> None:
    language = Language.load(code)
    for mark in Mark:
        assert language.mark(mark)
        assert fit(language.short(mark), 5).plain.strip() == language.short(mark)
    assert all(language.stage(stage) for stage in Stage)
    assert all(language.cause(cause) for cause in Cause if cause is not Cause.NONE)


def test_there_are_three_languages_and_others_are_refused() -> None:
    assert codes() == ("de", "en", "zh")
    assert own_code() in codes()
    with pytest.raises(UsageError, match="no texts in fr"):
        Language.load("fr")


def test_causes_a_worker_must_tell_apart_have_sentences_of_their_own() -> None:
    for code in codes():
        language = Language.load(code)
        sentences = [language.cause(cause) for cause in Cause]
        assert len(set(sentences)) == len(sentences)


def test_four_lanes_are_large_on_80_by_24() -> None:
    board = board_of(Stage.SYNCED, Stage.QUARANTINED, Stage.WRITING, Stage.HELD)
    lines = text_of(board)
    assert len(lines) >= 20
    assert any("█▀▀▀▄ ▄▀▀▀▄ ▄▀▀▀▀ ▄▀▀▀▀" in line for line in lines), "PASS in large letters"
    assert any("█▀▀▀▀ ▄▀▀▀▄  ▀█▀  █" in line for line in lines), "FAIL in large letters"
    assert any("lane 1  ttyUSB0" in line for line in lines)
    assert any("spring-0003" in line for line in lines)
    assert any("pass 1   fail 1   yield 50.0 %" in line for line in lines)


def test_128_lanes_are_all_there_on_80_by_24_and_those_that_failed_in_words() -> None:
    stages = [Stage.SYNCED] * 128
    stages[76] = Stage.QUARANTINED
    lines = text_of(board_of(*stages, cause=Cause.TEST_FAILED))
    shown = re.findall(r"(?<!\d)(\d+) +(?:PASS|FAIL)", "\n".join(lines[1:-4]))
    assert [int(number) for number in shown][:128] == list(range(1, 129))
    assert any("needs somebody: 1" in line for line in lines)
    assert any(" 77 " in line and "spring-0076" in line and "The test says no" in line for line in lines)


def test_the_screen_says_why_the_printer_holds_labels_up_and_keeps_its_size() -> None:
    for stages in ([Stage.SYNCED] * 4, [Stage.SYNCED] * 16, [Stage.SYNCED] * 128):
        board = board_of(*stages)
        board.waiting[Kind.LABEL] = 3
        board.problems[Kind.LABEL] = "the printer 192.0.2.9:9100 does not answer\x1b[2J"
        lines = text_of(board)
        assert "waiting: 0 results, 3 labels" in lines[-2]
        assert lines[-1].rstrip() == "the printer 192.0.2.9:9100 does not answer\\x1b[2J"
        board.problems[Kind.LABEL] = ""
        assert "does not answer" not in "".join(text_of(board))


def test_more_lanes_than_fit_come_in_pages() -> None:
    board = board_of(*[Stage.SYNCED] * 400)
    seen: set[str] = set()
    for page in range(10):
        lines = draw(board, ENGLISH, Sheet(width=80, height=24, now=page * 6.0), station="line3")
        seen |= set(re.findall(r"(\d+) +PASS", "\n".join(line.plain for line in lines)))
    assert {int(number) for number in seen} >= set(range(1, 401))
    assert any("page 1 of" in line for line in text_of(board))


@settings(max_examples=40, deadline=None)
@given(
    code=st.sampled_from(codes()),
    happened=st.lists(st.tuples(st.sampled_from(Stage), st.sampled_from(Cause)), max_size=150),
    width=st.integers(20, 250),
    height=st.integers(5, 80),
)
def test_it_fits_any_terminal(
    code: str, happened: list[tuple[Stage, Cause]], width: int, height: int
) -> None:
    board = Board()
    for at, (stage, cause) in enumerate(happened):
        board.take(event(at, stage, cause=cause, label="ein 标签" * 9, detail="x" * 99), now=float(at))
    text_of(board, width, height, Language.load(code))


def test_nothing_of_a_unit_reaches_the_terminal_as_a_command() -> None:
    board = Board()
    hostile = "\x1b]0;owned\x07\r\n"
    members = dict.fromkeys(("hardware_id", "device_id", "detail", "label"), hostile)
    board.take(event(0, Stage.FAILED, **members), now=0.0)
    board.notice = hostile
    for width, height in ((80, 24), (80, 5)):
        assert not any(sign in line for line in text_of(board, width, height) for sign in "\x1b\x07\r\n")


def test_a_unit_that_failed_and_then_passed_counts_as_passed_once() -> None:
    board = board_of(Stage.FAILED)
    assert (board.passed, board.failed, board.yield_percent) == (0, 1, 0.0)
    board.take(event(0, Stage.FAILED), now=2.0)
    board.take(event(0, Stage.SYNCED), now=3.0)
    assert (board.passed, board.failed, board.yield_percent) == (1, 0, 100.0)


def test_a_unit_that_was_made_before_is_no_second_pass() -> None:
    board = board_of(Stage.SYNCED, cause=Cause.MADE_BEFORE)
    assert (board.passed, board.lanes["/dev/ttyUSB0"].mark) == (0, Mark.DONE)


def test_the_word_of_a_unit_that_was_pulled_at_once_stays_a_while() -> None:
    board = board_of(Stage.SYNCED)
    board.take(LaneEvent(port="/dev/ttyUSB0", stage=Stage.WAITING), now=2.0)
    assert [lane.mark for lane in board.views(5.0)] == [Mark.PASS]
    assert [lane.mark for lane in board.views(60.0)] == [Mark.READY]
    board.take(event(1, Stage.FOUND), now=61.0)
    assert [lane.mark for lane in board.views(61.0)] == [Mark.READY, Mark.BUSY]


def test_the_rate_is_that_of_the_last_minutes() -> None:
    board = Board()
    for second in range(60):
        board.take(event(second, Stage.SYNCED), now=float(second))
    assert board.a_minute(60.0) == pytest.approx(60, rel=0.05)
    assert board.a_minute(10_000.0) == 0.0


def test_every_stage_has_a_mark_whatever_its_cause() -> None:
    assert {mark_of(event(0, stage, cause=cause)) for stage in Stage for cause in Cause} == set(Mark)
