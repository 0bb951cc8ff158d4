"""The commands of the guides about operators, run as they stand: acts in twos, codes, the way back."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyotp
import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"
PROPOSAL = "6ef0c2a49b1d7a44"
SPOKEN = "7K3M-9QXZ-0H2P"


@pytest.fixture
def home(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    config = reader.folder / "acme/fleet.toml"
    config.write_text(config.read_text().replace('driver = "auto"', 'driver = "embedded"'))
    return reader


def at_port(home: Reader, step: Step) -> Step:
    """Return a step with the port that the server has here."""
    endpoints = home.folder / "acme/run/endpoints.json"
    if not endpoints.exists():
        return step
    port = json.loads(endpoints.read_text())["https"]["port"]
    return replace(step, command=step.command.replace("https://localhost:8443", f"https://localhost:{port}"))


@dataclass
class Learned:
    """What a page has invented, and what it is here."""

    pattern: str
    invented: str
    real: str = ""

    def in_step(self, step: Step) -> Step:
        told = [line.replace(self.invented, "..." if not self.real else self.real) for line in step.expected]
        return Step(step.command.replace(self.invented, self.real), told)

    def hear(self, output: str) -> None:
        if (found := re.search(self.pattern, output)) is not None:
            self.real = found[1]


@dataclass
class Phone:
    """An app that has taken the secret in; it shows a code that it has not shown before."""

    folder: Path
    shown: list[int] = field(default_factory=list)

    def show(self) -> None:
        secret = self.folder / "secret-for-the-app"
        if not secret.exists() or not secret.read_text().strip():
            return
        otp = pyotp.parse_uri(secret.read_text().strip())
        assert isinstance(otp, pyotp.TOTP)
        step = max(int(time.time()) // 30 - 1, self.shown[-1] + 1 if self.shown else 0)
        self.shown.append(step)
        (self.folder / "code").write_text(otp.generate_otp(step))


def follow(home: Reader, page: str, learned: Learned, before: Callable[[Step], None]) -> None:
    for step in steps((GUIDES / page).read_text()):
        before(step)
        here = at_port(home, learned.in_step(step))
        output = home.run(here)
        learned.hear(output)
        wanted = "\n".join(here.expected)
        assert shows(output, here.expected), f"$ {here.command}\n{output}\nthe page shows:\n{wanted}"


def test_the_guide_to_acts_in_twos_does_what_it_says(home: Reader) -> None:
    learned = Learned(pattern=r"proposal ([0-9a-f]{16}) waits", invented=PROPOSAL)
    follow(home, "act-in-twos.md", learned, lambda step: None)


def test_the_guide_to_guarding_operators_does_what_it_says(home: Reader) -> None:
    phone = Phone(home.folder)

    def with_code(step: Step) -> None:
        if re.search(r"-file code\b", step.command):
            phone.show()

    learned = Learned(pattern=r"code to read out  (\S+)", invented=SPOKEN)
    follow(home, "guard-operators.md", learned, with_code)
