"""The commands of the guide to microcontrollers, run as a reader would, in the order of the page."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps
from tests.mcu import firmware

__all__ = ["firmware", "reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/run-on-a-microcontroller.md"
TOOLS = {"CARGO_HOME": ".cargo", "RUSTUP_HOME": ".rustup", "XDG_CACHE_HOME": ".cache"}


class Terminals:
    """Terminals of the reader's own, for what stays; a station is ended when its unit is done."""

    def __init__(self, guided: Reader) -> None:
        self._guided = guided
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, step: Step) -> str:
        if not step.command.endswith("&"):
            return self._guided.run(step)
        out = self._guided.folder / f"window-{len(self._started)}"
        with out.open("wb") as file:
            process = subprocess.Popen(
                step.command.removesuffix("&").split(),
                cwd=self._guided.folder,
                env=self._guided.environment,
                stdout=file,
            )
        self._started.append(process)
        if step.command.startswith("fleet station run"):
            self._wait(lambda: "synced" in out.read_text())
            self._end(process)
        elif step.command.startswith("socat"):
            self._wait((self._guided.folder / "device-end").exists)
        return ""

    def end(self) -> None:
        for process in reversed(self._started):
            self._end(process)

    @staticmethod
    def _wait(is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < deadline, "it never came so far"

    @staticmethod
    def _end(process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@pytest.fixture
def terminals(reader: Reader) -> Iterator[Terminals]:
    reader.environment |= {name: str(Path.home() / place) for name, place in TOOLS.items()}
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod", "fleet serve"):
        reader.run(Step(command))
    made = Terminals(reader)
    yield made
    made.end()


@pytest.mark.needs("cargo", "qemu-system-arm", "socat", "openssl")
def test_the_guide_does_what_it_says(firmware: Path, terminals: Terminals) -> None:
    for step in steps(GUIDE.read_text()):
        output = terminals.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
