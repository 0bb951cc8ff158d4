"""The commands of the guides to policy and backends, run as a reader would run them, against one server."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"


@pytest.fixture
def beside_a_server(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    return reader


def on_free_ports(step: Step, folder: Path) -> Step:
    """The pages use the default ports; a test takes whatever is free."""
    port = json.loads((folder / "acme/run/endpoints.json").read_text())["mqtt"]["port"]
    return replace(step, command=re.sub(r"-p 8883\b", f"-p {port}", step.command))


def follow(guided: Reader, guide: str) -> None:
    for step in steps((GUIDES / guide).read_text()):
        output = guided.run(on_free_ports(step, guided.folder))
        # What brokers decided reaches the server with their next round.
        deadline = time.monotonic() + 30
        while "0 of 0 decisions" in output and time.monotonic() < deadline:
            output = guided.run(on_free_ports(step, guided.folder))
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )


@pytest.mark.needs("mosquitto", "mosquitto_pub", "gcc")
def test_the_guides_do_what_they_say(beside_a_server: Reader) -> None:
    follow(beside_a_server, "give-a-backend-access.md")
    follow(beside_a_server, "grant-topics-by-policy.md")
