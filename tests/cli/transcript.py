"""Transcripts: what a person types, what comes back on each stream, and the exit code, in one readable file.

    home: made              what there is before the first command: empty, made (a fleet home), or served
    # A sentence about what follows.
    $ fleet device show d9
    > a line on stdout
    ! a line on stderr
    ? 4

`...` in a line stands for anything; a line that is only `...` for any lines. Without `?` the exit code is 0.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(kw_only=True)
class Step:
    """One command, and what must come of it."""

    line: int
    command: str
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    code: int = 0


@dataclass(frozen=True, kw_only=True)
class Transcript:
    path: Path
    home: str
    steps: tuple[Step, ...]


def read(path: Path) -> Transcript:
    """Read a transcript; raises ValueError with the line that is none."""
    home, *lines = path.read_text().splitlines()
    if not home.startswith("home: "):
        raise ValueError(f"{path.name}:1: must say `home: empty`, `home: made` or `home: served`")
    return Transcript(path=path, home=home.removeprefix("home: "), steps=tuple(_steps(path, lines)))


def _steps(path: Path, lines: list[str]) -> Iterator[Step]:
    step: Step | None = None
    for number, text in enumerate(lines, start=2):
        mark, rest = text[:1], text[2:]
        if mark == "$":
            if step is not None:
                yield step
            step = Step(line=number, command=rest)
        elif step is not None and mark in {">", "!"}:
            (step.stdout if mark == ">" else step.stderr).append(rest)
        elif step is not None and mark == "?":
            step.code = int(rest)
        elif mark not in {"", "#"}:
            raise ValueError(f"{path.name}:{number}: no transcript line: {text!r}")
    if step is not None:
        yield step


def play(transcript: Transcript, *, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run the steps in a folder; yield what is not as it was written."""
    for step in transcript.steps:
        done = subprocess.run(
            ["sh", "-c", step.command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        seen = {"stdout": done.stdout, "stderr": done.stderr}
        wanted = {"stdout": step.stdout, "stderr": step.stderr}
        wrong = [name for name in seen if not matches(seen[name], wanted[name])]
        if wrong or done.returncode != step.code:
            yield (
                f"{transcript.path.name}:{step.line}: $ {step.command}\n"
                f"exit {done.returncode}, wanted {step.code}; not as written: {wrong}\n"
                f"{done.stdout}--- stderr\n{done.stderr}"
            )


def matches(text: str, lines: list[str]) -> bool:
    """Tell whether a text is what the lines say."""
    pattern = "".join(_pattern(line) for line in lines)
    seen = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    return re.fullmatch(pattern, seen) is not None


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    return ".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"\n"
