"""`fleet policy ...`: what changed profiles and policy would do, before they are in force."""

from pathlib import Path

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Json, Members, items_of, say, show_list, show_record, write_json
from fleet.cli.table import Column
from fleet.errors import BadInputError, ExitCode

_COLUMNS = (
    Column(title="DEVICE", member="device", whole=True),
    Column(title="ASKS", member="step"),
    Column(title="TIMES", member="times"),
    Column(title="BEFORE", member="before"),
    Column(title="AFTER", member="after"),
    Column(title="WHY", member="why"),
)


@click.group()
def command() -> None:
    """Changed profiles and policy: try them on what was asked before, then put them in force."""


@command.command()
@options.record
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A fleet.toml to try [the home's, as it is on disk].",
)
@click.pass_context
def test(context: click.Context, home: Place, form: Form, *, config: Path | None) -> None:
    """Tell which requests on record would be answered differently; nothing changes.

    Exit code 0: none; 7: some, each with who, what before, what after, and why.
    """
    text = b"" if config is None else _read(config)
    found = with_client(home, lambda client: client.post_text("policy", "test", body=text))
    if form is not Form.TABLE:
        write_json(found)
    else:
        _show(found)
    context.exit(ExitCode.NEEDS_ATTENTION if found["different"] else ExitCode.DONE)


@command.command()
@options.record
def apply(home: Place, form: Form) -> None:
    """Put the profiles and [policy] of the home's fleet.toml in force, without a restart.

    What else changed in it needs a restart, and is refused here. The limit of requests a minute counts
    from the next start.
    """
    found = with_client(home, lambda client: client.post("policy", "apply", body={}))
    show_record(found, form, names={"changed": "changed", "profiles": "profiles in force"})


def _show(found: Members) -> None:
    rows = [_row(item) for item in items_of(found["items"])]
    if rows:
        show_list(rows, Form.TABLE, columns=_COLUMNS)
    say(f"{found['different']} of {found['requests']} requests on record would be answered differently")
    if found["undecided"]:
        say(f"{found['undecided']} were refused for other reasons, which no profile changes")


def _row(item: Members) -> Members:
    return {
        **item,
        "device": f"{item['domain']}:{item['device_id']}",
        "before": _outcome(item["before"]),
        "after": _outcome(item["after"]),
    }


def _outcome(ruling: Json) -> Json:
    return ruling["outcome"] if isinstance(ruling, dict) else None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInputError(f"{file} cannot be read: {(error.strerror or '').lower()}") from error
