"""Writes the reference of all commands, from their own help: `python -m fleet.cli.reference PAGE`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from fleet.cli.app import command
from fleet.errors import EXIT_CODES, ExitCode
from fleet.files import PUBLIC_MODE, write_file

_WIDTH = 100
_MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "called in a way that it has not",
    ExitCode.REFUSED: "refused by policy; a certificate that is not good",
    ExitCode.NOT_FOUND: "what was named is not there",
    ExitCode.UNREACHABLE: "a server, broker or port does not answer",
    ExitCode.BAD_INPUT: "a file or an argument is not what it should be",
    ExitCode.NEEDS_ATTENTION: "the check worked, and what it found needs somebody",
}


def text() -> str:
    """Return the page, Markdown."""
    root = click.Context(command, info_name="fleet", terminal_width=_WIDTH, max_content_width=_WIDTH)
    return "".join((*_head(), *_sections(root)))


def _head() -> Iterator[str]:
    yield (
        "# Commands of `fleet`\n\n"
        "Made from the commands' own help by `python -m fleet.cli.reference docs/reference/fleet.md`; a test"
        " holds it to them.\n\n"
        "Data goes to standard output, talk to standard error. `--json` prints one JSON document,"
        " `--jsonl` one object a line.\nColours are left out where `NO_COLOR` is set or nobody looks.\n\n"
        "| exit code | meaning |\n|---|---|\n"
    )
    for code in sorted({ExitCode.DONE, ExitCode.USAGE, *EXIT_CODES.values()}):
        yield f"| {code.value} | {_MEANINGS[code]} |\n"


def _sections(context: click.Context) -> Iterator[str]:
    """Yield a section for a command, then those below it."""
    yield f"\n## {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```\n"
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            below = context.command.get_command(context, name)
            assert below is not None  # noqa: S101 - it has just been listed
            yield from _sections(
                click.Context(
                    below,
                    parent=context,
                    info_name=name,
                    terminal_width=_WIDTH,
                    max_content_width=_WIDTH,
                )
            )


if __name__ == "__main__":
    write_file(Path(sys.argv[1]), text().encode(), mode=PUBLIC_MODE)
