"""The commands of the page about several identities, run as a reader would run them."""

from pathlib import Path

import pytest

from tests.e2e.test_est_guide import on_free_ports
from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/several-identities.md"


@pytest.mark.needs("mosquitto", "gcc")
def test_the_guide_does_what_it_says(reader: Reader) -> None:
    reader.run(Step("export FLEET_HOME=$PWD/acme"))
    reader.run(Step("fleet init --name acme --domain prod --domain lab"))
    reader.run(Step("fleet serve", expected=["ready"]))
    for step in steps(GUIDE.read_text()):
        output = reader.run(on_free_ports(step, reader.folder))
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
