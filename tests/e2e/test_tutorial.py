"""The tutorial's commands, run as a reader would run them, in the order of the page."""

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial/first-fleet.md"
_PATIENCE_SECONDS = 300
"""Of a reader with one command: a device that is refused asks for ever."""
BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass
class Step:
    """One command, and the lines that the page shows below it; `...` stands for anything."""

    command: str
    expected: list[str] = field(default_factory=list)


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for block in BLOCK.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            elif line.startswith("> "):
                found[-1].command = found[-1].command.removesuffix("\\") + line[2:]
            else:
                found[-1].expected.append(line)
    return found


def shows(output: str, expected: list[str]) -> bool:
    wanted = "\n".join(expected).replace("[", "[[]").replace("...", "*")
    return fnmatch.fnmatchcase("\n".join(line.rstrip() for line in output.splitlines()), wanted)


@dataclass
class Reader:
    """A shell of somebody who follows the page; servers go to terminals of their own."""

    folder: Path
    environment: dict[str, str]
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, step: Step) -> str:
        if step.command.startswith("export "):
            name, _, value = step.command.removeprefix("export ").partition("=")
            self.environment[name] = value.replace("$PWD", str(self.folder))
            return ""
        if step.command.endswith("&") or step.command.endswith(" serve"):
            return self._start(step.command.removesuffix("&").split())
        command = step.command.replace("localhost:8884", self._bootstrap())
        result = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        assert result.returncode == 0, f"$ {step.command}\n{result.stdout}"
        if " init " in step.command:
            self._let_ports_be_free()
        return result.stdout

    def _let_ports_be_free(self) -> None:
        """The page uses the default ports; a test takes whatever is free."""
        config = self.folder / "acme/fleet.toml"
        config.write_text(re.sub(r"_port = \d+", "_port = 0", config.read_text()))

    def _bootstrap(self) -> str:
        endpoints = self.folder / "acme/run/endpoints.json"
        if not endpoints.exists():
            return "localhost:8884"
        found = json.loads(endpoints.read_text())["mqtt_bootstrap"]
        return f"{found['host']}:{found['port']}"

    def _listens(self, command: list[str]) -> bool:
        """A reader types slower than an agent starts."""
        return (self.folder / command[command.index("--state") + 1] / "agent.sock").exists()

    def _start(self, command: list[str]) -> str:
        out = self.folder / f"terminal-{len(self.others)}"
        with out.open("wb") as file:
            process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=file)
        self.others.append(process)
        deadline = time.monotonic() + 60
        while not (self._listens(command) if command[0] == "device-agent" else "ready" in out.read_text()):
            assert process.poll() is None, "it ended before it was ready"
            assert time.monotonic() < deadline, "it never said ready"
        return out.read_text()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = Reader(tmp_path, {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8", "COLUMNS": "120"})
    yield made
    for process in reversed(made.others):
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    for pid_file in tmp_path.glob("acme/broker/mosquitto.pid"):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    for step in steps(TUTORIAL.read_text()):
        output = reader.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
