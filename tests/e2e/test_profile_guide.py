"""The commands of the page on profiles, run as a reader would run them, in the order of the page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.config import parse
from fleet.errors import BadInputError
from tests.e2e.test_tutorial import Reader, Step, reader, shows, steps

__all__ = ["reader"]

GUIDE = Path(__file__).parents[2] / "docs/how-to/write-a-profile.md"


def on_its_port(step: Step, folder: Path) -> Step:
    """The page uses the default port; a test takes whatever is free."""
    port = json.loads((folder / "acme/run/endpoints.json").read_text())["mqtt_bootstrap"]["port"]
    return replace(step, command=step.command.replace("localhost:8884", f"localhost:{port}"))


def test_the_page_does_what_it_says(reader: Reader) -> None:
    for command in ("export FLEET_HOME=$PWD/acme", "fleet init --name acme --domain prod"):
        reader.run(Step(command))
    reader.run(Step("fleet serve", expected=["ready"]))
    for step in steps(GUIDE.read_text()):
        output = reader.run(on_its_port(step, reader.folder))
        assert shows(output, step.expected), f"$ {step.command}\n{output}\nthe page shows:\n" + "\n".join(
            step.expected
        )


def test_the_page_names_every_setting_that_there_is() -> None:
    with pytest.raises(BadInputError) as caught:
        parse('[fleet]\nname = "acme"\n[domains.prod]\n[domains.prod.profiles.other]\nqqqqqqqq = 1\n')
    assert caught.value.hint is not None
    settings = caught.value.hint.removeprefix("known here: ").split(", ")

    assert "lifetime_days" in settings
    assert [name for name in settings if f"`{name}`" not in GUIDE.read_text()] == []
