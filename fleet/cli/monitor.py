"""`fleet monitor`: certificates that were refused, by cause, with what helps; and lines of logs, shipped."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.connection import for_people
from fleet.cli.following import require_served
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, cell, say, show_list, write_line, write_text
from fleet.cli.shipping import ship_log
from fleet.cli.since import moment
from fleet.core.causes import Cause
from fleet.core.log_lines import Product
from fleet.errors import BadInputError, UsageError

Asked: TypeAlias = Mapping[str, str | None]
"""The parameters of a query."""

_LOOK_SECONDS = 2.0
_COLUMNS = (
    Column(title="CAUSE", member="cause", whole=True),
    Column(title="TIMES", member="times"),
    Column(title="WHO", member="who", whole=True),
    Column(title="ADDRESS", member="address", whole=True),
    Column(title="SEEN BY", member="place", whole=True),
    Column(title="SINCE", member="first_at", whole=True),
    Column(title="LAST", member="last_at", whole=True),
    Column(title="CERTIFICATE", member="serial", whole=True),
)


@click.group(invoke_without_command=True)
@options.listing
@options.domain
@options.limit(100)
@click.option("--cause", type=click.Choice([cause.value for cause in Cause]), help="Only this cause.")
@click.option("--place", metavar="WHERE", help="Only seen there, such as mosquitto, https or log:web.")
@click.option("--since", metavar="TIME", default="1d", help="2026-05-01T12:00:00Z, or 90m, 36h, 7d ago [1d].")
@click.option("--watch", "-w", is_flag=True, help="Go on with what is refused from now on, until Ctrl-C.")
@click.pass_context
def command(
    context: click.Context,
    home: Place,
    form: Form,
    *,
    domain: str | None,
    limit: int | None,
    cause: str | None,
    place: str | None,
    since: str,
    watch: bool,
) -> None:
    """Show which certificates brokers and web servers refuse, why, and what helps.

    Of the fleet's own listeners, of logs that fleet.toml names, and of those that are shipped here.
    """
    if context.invoked_subcommand is not None:
        return
    if watch and form is Form.JSON:
        raise UsageError("a list without an end is no JSON array", hint="--watch --jsonl")
    asked = {"domain": domain, "cause": cause, "place": place, "since": moment(since)}

    def act(client: Client) -> None:
        found = list(client.items("monitor", limit=limit, **asked))
        if watch:
            watch_troubles(client, asked, found, form)
        else:
            _show(found, form)

    if watch:
        require_served(home)
    with_client(home, act)


def _show(found: list[Members], form: Form) -> None:
    if form is not Form.TABLE:
        show_list(found, form, columns=_COLUMNS)
        return
    rows = [for_people(row) for row in found]
    show_list(rows, form, columns=_COLUMNS, empty="nobody was refused")
    for cause in dict.fromkeys(str(row["cause"]) for row in found):
        first = next(row for row in found if row["cause"] == cause)
        say(f"{cause}: {first['meaning']}")
        say(f"hint: {first['fix']}")


def _news(client: Client, asked: Asked, known: list[Members]) -> Iterator[Members]:
    """Yield what was refused since the last look, with how often, without an end."""
    counts = {_key(row): int(str(row["times"])) for row in known}
    while True:
        time.sleep(_LOOK_SECONDS)
        for row in reversed(list(client.items("monitor", limit=1000, **asked))):
            before, now = counts.get(_key(row), 0), int(str(row["times"]))
            counts[_key(row)] = now
            if now > before:
                yield {**row, "times": now - before}


def _key(row: Members) -> tuple[str, ...]:
    names = ("place", "cause", "domain", "device_id", "name", "serial", "address")
    return tuple(str(row[name]) for name in names)


def watch_troubles(client: Client, asked: Asked, known: list[Members], form: Form) -> None:
    """Print what is refused from now on, without an end."""
    for row in _news(client, asked, known):
        if form is Form.JSONL:
            write_line(row)
            continue
        shown = for_people(row)
        names = ("last_at", "cause", "who", "address", "place")
        times = f"{cell(row['times'])} times" if row["times"] != 1 else ""
        write_text("  ".join([*(cell(shown[name]) for name in names), *filter(None, [times])]))


@command.command()
@options.place
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--product", type=click.Choice([one.value for one in Product]), required=True, help="Whose log."
)
@click.option("--name", metavar="NAME", required=True, help="How the log is called here: web, broker-2.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="Where to remember how far it was shipped.",
)
@click.option("--once", is_flag=True, help="Ship what there is now, and end.")
def ship(home: Place, *, file: Path, product: str, name: str, state: Path, once: bool) -> None:
    """Ship a log of this machine to the fleet's server, line by line, each line once.

    With --server, --operator-cert and --operator-key, as every command; the certificate may be that of a
    device, if [monitor] shippers in fleet.toml names it.
    """

    if once and not file.is_file():
        raise BadInputError(f"{file} is no file that can be read", hint="which log is to be shipped?")

    def act(client: Client) -> None:
        for found in ship_log(client, file, product=product, name=name, state=state, once=once):
            say(found)

    with_client(home, act)
