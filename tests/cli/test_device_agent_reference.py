"""The reference page is what the parser says."""

from pathlib import Path

import pytest

from device_agent import __version__, arguments
from tests.reference_device_agent import render

ROOT = Path(__file__).parents[2]


def test_the_reference_page_is_made_from_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEVICE_AGENT_STATE", raising=False)
    page = (ROOT / "docs" / "reference" / "device-agent.md").read_text()
    assert page == render(), "run: python -m tests.reference_device_agent > docs/reference/device-agent.md"


def test_the_agent_tells_the_version_of_the_package() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"device-agent {__version__}" in str(
        next(each for each in arguments.build_parser()._actions if each.dest == "version").__dict__
    )
