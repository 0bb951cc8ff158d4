"""The command tree: complete, documented, quick to load, and with hints that lead somewhere."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fleet.cli import app, reference
from fleet.errors import EXIT_CODES, ExitCode, FleetError

ROOT = Path(__file__).parents[4]
CONTEXT = click.Context(app.command, info_name="fleet")
NOUNS = {name: app.command.get_command(CONTEXT, name) for name in app.command.list_commands(CONTEXT)}
PROMISED = {
    "device": "list show register import approve reject set tag untag export suspend resume retire"
    " decommission explain",
    "group": "add list show put take remove",
    "move": "list show transfer replace return sent readmit code cancel",
    "owner": "add list remove",
    "cert": "list show revoke renew export verify",
    "adoption": "open add crl list left close",
    "claim": "create list revoke sheet",
    "station": "add list show change renew certify revoke operator run carry sync lease report new-journal"
    " release reprint",
    "audit": "tail search verify export head prove verifier archive archives checkpoint witnesses",
    "broker": "show apply sessions kick",
    "connection": "list",
    "monitor": "ship",
    "notice": "list show ack test",
    "operator": "add list remove renew totp recover pleas vouch deny",
    "rollout": "plan start status pause resume halt roll-back abandon list devices",
    "proposal": "list show approve reject withdraw",
}


def leaves() -> Iterator[tuple[str, click.Command]]:
    for noun, command in NOUNS.items():
        assert command is not None
        yield from _below(noun, command)


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    for verb, below in command.commands.items():
        yield from _below(f"{name} {verb}", below)


LEAVES = list(leaves())


@pytest.mark.parametrize(("noun", "verbs"), list(PROMISED.items()))
def test_a_noun_has_the_verbs_that_were_promised(noun: str, verbs: str) -> None:
    command = NOUNS[noun]
    assert isinstance(command, click.Group)
    assert set(command.commands) == set(verbs.split())


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_every_command_and_option_says_what_it_is_for(name: str, command: click.Command) -> None:
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_every_command_that_prints_data_can_print_json(name: str, command: click.Command) -> None:
    texts = {"serve", "cert export", "audit export", "claim sheet", "ca rollover bundle", "monitor ship"}
    texts |= {
        "audit head",
        "audit prove",
        "audit verifier",
        "audit checkpoint",
    }  # files to keep: JSON, or a program
    options = {option for parameter in command.params for option in parameter.opts}
    assert name in texts or options & {"--json", "--jsonl"}


def test_the_reference_is_what_the_commands_say() -> None:
    page = ROOT / "docs/reference/fleet.md"
    assert page.read_text() == reference.text(), "python -m fleet.cli.reference docs/reference/fleet.md"


def test_hints_name_commands_that_there_are() -> None:
    wrong = []
    for path in sorted((ROOT / "fleet").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            for noun, verb in re.findall(r"\bfleet ([a-z]+) ([a-z][a-z-]*[a-z])", node.value):
                command = NOUNS.get(noun)
                if isinstance(command, click.Group) and verb not in command.commands:
                    wrong.append(f"{path.name}:{node.lineno}: fleet {noun} {verb}")
    assert not wrong


def test_help_loads_neither_the_server_nor_the_tables() -> None:
    heavy = "aiohttp cryptography rich aiosqlite asyncio"
    code = (
        "import sys; from fleet.cli.app import run; run(['--help']);"
        f" sys.exit(' '.join(name for name in {heavy.split()} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", list(EXIT_CODES), ids=lambda kind: kind.__name__)
def test_every_error_ends_with_its_code_and_no_traceback(
    kind: type[FleetError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise kind("it went wrong", hint="do this")

    monkeypatch.setattr(app.command, "main", fail)
    assert app.run(["status"]) == EXIT_CODES[kind]
    assert capsys.readouterr().err == "error: it went wrong\nhint: do this\n"


def test_an_error_that_nobody_foresaw_has_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExceptionGroup("several", [ValueError("a fault")])

    monkeypatch.delenv("FLEET_DEBUG", raising=False)
    monkeypatch.setattr(app.command, "main", fail)
    assert app.run([]) == ExitCode.FAILED
    assert capsys.readouterr().err.splitlines()[0] == "error: ValueError: a fault"


def test_ctrl_c_ends_as_shells_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app.command, "main", fail)
    assert app.run([]) == 130
