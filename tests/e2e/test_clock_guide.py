"""The commands of the guide to devices without a clock, run as a reader would, on a device in 1970."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/a-device-without-a-clock.md"


@pytest.fixture
def home(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    return reader


def no_clock() -> dict[str, str]:
    """Return the environment in which each process begins at the epoch, as after a power cut."""
    shown = subprocess.run(
        ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    return {
        "LD_PRELOAD": shown.stdout.strip(),
        "FAKETIME": "@1970-01-01 00:00:09",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def hears_the_time(state: Path) -> None:
    """Wait as a reader does, who types slower than an agent connects."""
    deadline = time.monotonic() + 60
    while not (state / "clock").exists():
        assert time.monotonic() < deadline


@pytest.mark.needs("faketime")
def test_the_guide_does_what_it_says(home: Reader) -> None:
    usual = home.environment
    for step in steps(GUIDE.read_text()):
        home.environment = usual if step.command.startswith("fleet") else {**usual, **no_clock()}
        output = home.run(step)
        if step.command.endswith("&"):
            hears_the_time(home.folder / "meter7")
        wanted = "\n".join(step.expected)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n{wanted}"
