"""The commands of the EST guide, run as a reader would run them, in the order of the page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/enroll-with-est.md"
PORTS = {"localhost:8443": "https", "-p 8883": "mqtt", "provision.py 8884": "mqtt_bootstrap"}


def on_free_ports(step: Step, folder: Path) -> Step:
    """The page uses the default ports; a test takes whatever is free."""
    endpoints = json.loads((folder / "acme/run/endpoints.json").read_text())
    command = step.command
    for shown, name in PORTS.items():
        port = endpoints[name]["port"]
        command = command.replace(shown, shown[: -len("8443")] + str(port))
    return replace(step, command=command)


@pytest.fixture
def beside_a_server(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    return reader


@pytest.mark.needs("curl", "openssl", "mosquitto_pub", "pki")
def test_the_guide_does_what_it_says(beside_a_server: Reader) -> None:
    guided = beside_a_server
    for step in steps(GUIDE.read_text()):
        output = guided.run(on_free_ports(step, guided.folder))
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
    for name in ("d1-next", "d2"):
        guided.run(Step(f"fleet cert verify {name}.crt"))
