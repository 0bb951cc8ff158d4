"""Text consoles: whatever bytes come, in whatever pieces, lines and answers stay bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.station.drivers.console import (
    LONGEST_ANSWER,
    LONGEST_LINE,
    Console,
    ConsoleError,
    End,
    Lines,
    ends,
)
from fleet.station.link.causes import Cause

JUDGE = ends(done="OK".__eq__, refused="ERROR".__eq__)


class Said:
    """A line that says its pieces one after another, and then nothing more."""

    def __init__(self, *pieces: bytes, again: bool = False) -> None:
        self.pieces = list(pieces)
        self._again = again
        self.sent = b""

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if not self.pieces:
            await asyncio.Event().wait()
        return self.pieces[0] if self._again else self.pieces.pop(0)

    async def write(self, octets: bytes) -> None:
        self.sent += octets


def console(*pieces: bytes, prompt: str = "", again: bool = False) -> Console:
    return Console(Said(*pieces, again=again), prompt=prompt, quiet_seconds=0)


async def ask(target: Console, seconds: float = 0.05) -> tuple[End, tuple[str, ...]]:
    answer = await target.ask("AT", "AT+X", judge=JUDGE, seconds=seconds)
    return answer.end, answer.lines


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_bytes_make_a_line_that_is_too_long_or_empty(pieces: list[bytes]) -> None:
    lines = Lines()
    for piece in pieces:
        assert all(0 < len(line) <= LONGEST_LINE for line in lines.feed(piece))
        assert len(lines.rest) <= LONGEST_LINE


@given(
    st.lists(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1), max_size=8),
    st.data(),
)
def test_lines_are_the_same_however_they_are_cut(words: list[str], data: st.DataObject) -> None:
    octets = "".join(f"{word}\r\n" for word in words).encode()
    cut = data.draw(st.integers(0, len(octets)))
    lines = Lines()
    assert [*lines.feed(octets[:cut]), *lines.feed(octets[cut:])] == words


@given(st.integers(LONGEST_LINE + 1, 3 * LONGEST_LINE), st.integers(1, 5000))
def test_a_line_without_end_is_dropped_whole_and_the_next_one_is_heard(length: int, piece: int) -> None:
    lines, octets = Lines(), b"x" * length + b"\r\nOK\r\n"
    heard = [line for at in range(0, len(octets), piece) for line in lines.feed(octets[at : at + piece])]
    assert heard == ["OK"]


def test_colours_prompts_and_nuls_are_no_part_of_a_line() -> None:
    lines = Lines()
    assert lines.feed(b"\x1b[1;32muart:~$ \x1b[m\x1b[8D\x1b[Jmosh:~$ cred\0 list\r\n") == ["cred list"]


async def test_an_answer_ends_with_the_line_that_ends_it() -> None:
    assert await ask(console(b"one\r\ntwo\r\nOK\r\n")) == (End.DONE, ("one", "two", "OK"))
    assert await ask(console(b"one\r\nERROR\r\n")) == (End.REFUSED, ("one", "ERROR"))


async def test_half_lines_are_waited_for() -> None:
    assert await ask(console(b"on", b"e\r", b"\nO", b"K", b"\r\n")) == (End.DONE, ("one", "OK"))


async def test_an_echo_ends_nothing() -> None:
    judge = ends(done=lambda line: line.endswith("OK"), refused=lambda _: False)
    answer = await console(b"set OK\r\nOK\r\n").ask("set", "set OK", judge=judge, seconds=0.05)
    assert answer.lines == ("set OK", "OK")


async def test_with_a_prompt_an_answer_is_over_when_that_stands_there() -> None:
    target = console(b"OK\r\nafter\r\n", b">", b"> ", prompt=">>")
    assert await ask(target) == (End.DONE, ("OK", "after"))


async def test_silence_is_told_without_what_was_sent_or_heard() -> None:
    with pytest.raises(ConsoleError) as caught:
        await ask(console(b"secret"))
    assert caught.value.cause is Cause.NOT_ANSWERING
    assert str(caught.value) == "the unit does not answer AT within 0.05 seconds"


@pytest.mark.parametrize("piece", [b"x" * 4096, b"spam\r\n" * 600], ids=["one-line", "many-lines"])
async def test_a_flood_is_cut_off(piece: bytes) -> None:
    target = console(piece, again=True)
    with pytest.raises(ConsoleError, match="without end") as caught:
        await ask(target, seconds=20)
    assert caught.value.cause is Cause.FLOODS
    assert target.wire_bytes < LONGEST_ANSWER + 2 * len(piece)


async def test_what_came_before_is_let_go() -> None:
    line = Said(b"old\r\nOK\r\nhal")
    target = Console(line, quiet_seconds=0.01)
    await target.settle()
    line.pieces.append(b"new\r\nOK\r\n")
    assert await ask(target) == (End.DONE, ("new", "OK"))
