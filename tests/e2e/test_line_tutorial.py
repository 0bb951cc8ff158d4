"""The tutorial of the factory line: its commands do what the page shows, on a real cable with real agents."""

import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

PAGE = Path(__file__).parents[2] / "docs/tutorial/factory-line.md"
READY = {"socat": "", "fleet": "waiting for a unit"}

__all__ = ["reader"]


@dataclass
class Worker(Reader):
    """A reader who runs a line beside the server."""

    def run(self, step: Step) -> str:
        if step.command.endswith("&"):
            return self._aside(step)
        return self._read(step) if step.command.startswith(("cat ", "tail ")) else super().run(step)

    def _read(self, step: Step) -> str:
        """Read a file as somebody who looks again: it is written behind the line."""
        deadline = time.monotonic() + 60
        while True:
            read = subprocess.run(
                ["sh", "-c", step.command], cwd=self.folder, capture_output=True, check=False
            )
            if shows(read.stdout.decode(), step.expected) or time.monotonic() > deadline:
                return read.stdout.decode()

    def _aside(self, step: Step) -> str:
        """Start a command in a terminal of its own, and wait until it works."""
        command = shlex.split(step.command.removesuffix("&"))
        said = self.folder / f"aside-{len(self.others)}"
        with said.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=out, stderr=subprocess.STDOUT
            )
        self.others.append(process)
        deadline = time.monotonic() + 60
        while not (READY[command[0]] in said.read_text() and (self.folder / "unit").exists()):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
        return ""


@pytest.fixture
def worker(reader: Reader) -> Iterator[Worker]:
    made = Worker(reader.folder, reader.environment)
    yield made
    for process in reversed(made.others):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@pytest.mark.needs("socat")
def test_the_tutorial_of_the_line_does_what_it_says(worker: Worker) -> None:
    for step in steps(PAGE.read_text()):
        output = worker.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
