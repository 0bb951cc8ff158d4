"""The commands of the guide for a station without its server, run as a reader would run them."""

from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/run-a-station-offline.md"


def dedented(page: str) -> str:
    """Return a page whose blocks stand inside of numbered steps, with them at the margin."""
    return "\n".join(line.removeprefix("   ") for line in page.splitlines()) + "\n"


@pytest.mark.needs("openssl")
def test_the_guide_does_what_it_says(reader: Reader) -> None:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    run = 0
    for step in steps(dedented(GUIDE.read_text())):
        output = reader.run(step)
        run += 1
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )
    assert run == 7
