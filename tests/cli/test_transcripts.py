"""Every command as a person sees it: both streams and the exit code, on the real programs."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import copy_home, enroll, environment, served
from tests.cli.transcript import matches, play, read

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_commands_do_and_say_what_the_transcript_says(
    path: Path, tmp_path: Path, made_home: Path
) -> None:
    transcript = read(path)
    with ExitStack() as stack:
        if transcript.home != "empty":
            copy_home(made_home, tmp_path)
        if transcript.home == "served":
            stack.enter_context(served(tmp_path))
            enroll(tmp_path, "alpha")
        wrong = list(play(transcript, folder=tmp_path, environment=environment(tmp_path)))
    assert not wrong, "\n".join(wrong)


def test_a_transcript_that_is_not_so_is_seen() -> None:
    assert matches("made /x/home\nnext\n", ["made ...home", "next"])
    assert matches("a\nb\nc\n", ["a", "...", "c"])
    assert not matches("a\nb\n", ["a"])
    assert not matches("made it\n", ["made"])
    assert not matches("", ["a"])
