"""The commands of the guides to images, run as a reader would, in the order of each page."""

from pathlib import Path

import pytest

from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDES = Path(__file__).parents[2] / "docs/how-to"


@pytest.fixture
def home(reader: Reader) -> Reader:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod", "fleet serve"):
        reader.run(Step(command))
    return reader


def follow(guided: Reader, page: str) -> None:
    for step in steps((GUIDES / page).read_text()):
        output = guided.run(step)
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n{step.expected}"


def test_the_guide_to_linux_images_does_what_it_says(home: Reader) -> None:
    follow(home, "linux-image.md")
    assert (home.folder / "files/etc/init.d/device-agent").stat().st_mode & 0o111


def test_the_guide_to_esp32s_does_what_it_says(home: Reader) -> None:
    follow(home, "provision-esp32s.md")
    assert home.run(Step("fleet device list --json")).count('"device_id"') == 2
