"""Who can be asked: nobody where standard input is closed, or no terminal."""

import ast
import io
import sys
from pathlib import Path
from types import ModuleType

import pytest

import device_agent.terminal
import fleet.terminal
from fleet.cli.handed import content_of
from fleet.errors import BadInputError

ROOT = Path(__file__).parents[3]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("module", [device_agent.terminal, fleet.terminal], ids=["agent", "fleet"])
@pytest.mark.parametrize(("stream", "can"), [(None, False), (io.StringIO(), False), (Terminal(), True)])
def test_only_a_terminal_can_be_asked_on(
    module: ModuleType, stream: io.StringIO | None, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stream)
    assert module.can_ask() is can


@pytest.mark.parametrize(
    ("name", "ask"), [("stdout", fleet.terminal.is_shown), ("stderr", fleet.terminal.is_told)]
)
def test_a_closed_stream_is_no_terminal(name: str, ask: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    assert callable(ask)
    assert ask() is False


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BadInputError, match="standard input is closed"):
        content_of(Path("-"))


def test_no_other_module_asks_standard_input_whether_it_is_a_terminal() -> None:
    asking = [
        str(path.relative_to(ROOT))
        for package in ("fleet", "device_agent")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.stdin.isatty"
    ]
    assert asking == ["fleet/terminal.py", "device_agent/terminal.py"]
