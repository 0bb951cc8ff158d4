"""The commands of the guide to recovery, run as a reader would: a lost key, wrong codes, a copied device."""

import time
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

pytestmark = pytest.mark.needs("mosquitto")

GUIDE = Path(__file__).parents[2] / "docs/how-to/recover-a-device.md"


@pytest.fixture
def home(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    return reader


def output_of(home: Reader, step: Step) -> str:
    """Run a step; what a broker has seen, an operator is told a moment later, so a story is read again."""
    deadline = time.monotonic() + 30
    while not shows(output := home.run(step), step.expected):
        if not step.command.startswith("fleet device explain") or time.monotonic() > deadline:
            break
    return output


def test_the_guide_does_what_it_says(home: Reader) -> None:
    for step in steps(GUIDE.read_text()):
        output = output_of(home, step)
        wanted = "\n".join(step.expected)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n{wanted}"
