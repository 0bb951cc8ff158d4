"""The commands of the guides to rolling and losing a CA, run as a reader would run them."""

import json
import time
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"
ENROLL = (
    "device-agent --state d1 enroll --mqtt localhost:8884 --device d1 --code-file d1.code"
    " --claim acme/trust/prod/public-claim.crt,acme/trust/prod/public-claim.key --trust acme/trust/server.pem"
)


@pytest.fixture
def served(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    return reader


def with_a_device(reader: Reader) -> None:
    code = json.loads(reader.run(Step("fleet claim create --domain prod --device d1 --json 2>/dev/null")))
    (reader.folder / "d1.code").write_text(code[0]["code"])
    reader.run(Step(ENROLL))
    reader.run(Step("device-agent --state d1 run &"))


def until_heard(reader: Reader) -> None:
    """A reader types slower than a device answers."""
    deadline = time.monotonic() + 30
    while True:
        status = json.loads(reader.run(Step("fleet ca rollover status prod --json")))
        if status["acknowledged"] == status["devices"]:
            return
        assert time.monotonic() < deadline, status


def follow(reader: Reader, page: str) -> None:
    for step in steps((GUIDES / page).read_text()):
        if "rollover status" in step.command:
            until_heard(reader)
        output = reader.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )


def test_a_root_is_rolled_over_as_the_guide_says(served: Reader) -> None:
    with_a_device(served)
    follow(served, "roll-a-ca.md")
    served.run(Step("device-agent --state d1 renew"))


def test_a_lost_ca_is_followed_as_the_guide_says(served: Reader) -> None:
    follow(served, "lose-a-ca.md")
