"""The AWS SDK guide, run as a reader would run it, with the program and the template that it prints."""

import re
from pathlib import Path

import pytest

from tests.e2e.test_est_guide import beside_a_server, on_free_ports
from tests.e2e.test_tutorial import Reader, reader, shows, steps

__all__ = ["beside_a_server", "reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/enroll-an-aws-sdk-device.md"


def printed(language: str) -> str:
    """Return the one listing of the page in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.mark.needs("curl", "openssl", "mosquitto", "mosquitto_pub", "gcc")
def test_the_guide_does_what_it_says(beside_a_server: Reader) -> None:
    guided = beside_a_server
    (guided.folder / "provision.py").write_text(printed("python"))
    (guided.folder / "line3.toml").write_text(printed("toml"))
    for step in steps(GUIDE.read_text()):
        output = guided.run(on_free_ports(step, guided.folder))
        if step.expected:
            assert shows(output, step.expected), f"$ {step.command}\n{output}"
    assert (guided.folder / "next.p7").stat().st_size > 0
