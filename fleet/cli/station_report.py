"""`fleet station report`: what stations made, and what is wrong with it."""

import csv
import io
from collections.abc import Sequence

import click

from fleet.cli import options
from fleet.cli.client import Client, with_client
from fleet.cli.options import Place
from fleet.cli.output import Column, Form, Members, say, show_list, write_json, write_text
from fleet.errors import UsageError

_BY = ("station", "batch", "operator", "reason", "attempt")
_COUNTS = ("units", "issued", "passed", "failed", "quarantined", "online")
_FINDING = (
    Column(title="STATION", member="station"),
    Column(title="KIND", member="kind"),
    Column(title="ABOUT", member="about", whole=True),
    Column(title="WHAT", member="detail", whole=True),
    Column(title="SEE", member="hint", whole=True),
)


@click.command("report")
@options.listing
@click.option("--by", type=click.Choice(_BY), default="station", help="What to count by [station].")
@click.option("--station", metavar="NAME", help="Of this station alone.")
@click.option("--batch", metavar="NAME", help="Of this batch alone.")
@click.option("--findings", is_flag=True, help="Only what is wrong, each with where to look.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV (RFC 4180).")
def command(
    home: Place,
    form: Form,
    *,
    by: str,
    station: str | None,
    batch: str | None,
    findings: bool,
    as_csv: bool,
) -> None:
    """Count what stations made, as their journals and the server's records tell it.

    Units are counted once, however often they were plugged in; YIELD is those that passed of all, FIRST those
    that passed at their first visit. ONLINE are those that the broker has seen since.
    """
    if as_csv and form is not Form.TABLE:
        raise UsageError("csv and json at once", hint="leave --csv or --json out")

    def act(client: Client) -> None:
        if findings:
            _show(list(client.items("stations", "findings", station=station)), form, _FINDING, as_csv=as_csv)
            return
        lines = client.items("stations", "report", by=by, station=station, batch=batch)
        _show([_with_yield(line) for line in lines], form, _columns(by), as_csv=as_csv)
        wrong = sum(1 for _ in client.items("stations", "findings", station=station))
        if wrong and form is Form.TABLE and not as_csv:
            say(f"{wrong} findings: fleet station report --findings")

    with_client(home, act)


def _columns(by: str) -> tuple[Column, ...]:
    return (
        Column(title=by.upper(), member="name", whole=True),
        *(Column(title=_title(name), member=name) for name in _COUNTS),
        Column(title="YIELD", member="yield"),
        Column(title="FIRST", member="first"),
    )


def _title(name: str) -> str:
    return "QUAR." if name == "quarantined" else name.upper()


def _with_yield(line: Members) -> Members:
    return {**line, "yield": _share(line, "passed"), "first": _share(line, "first_pass")}


def _share(line: Members, name: str) -> str:
    """Return a part of the units in percent, cut rather than rounded: 100 % means all."""
    units, part = line["units"], line[name]
    if not isinstance(units, int) or not isinstance(part, int) or units == 0:
        return "-"
    tenths = part * 1000 // units
    return f"{tenths // 10}.{tenths % 10}%"


def _show(lines: Sequence[Members], form: Form, columns: Sequence[Column], *, as_csv: bool) -> None:
    if as_csv:
        write_text(_csv(lines, columns))
    elif form is Form.JSON:
        write_json(list(lines))
    else:
        show_list(lines, form, columns=columns, empty="nothing yet")


def _csv(lines: Sequence[Members], columns: Sequence[Column]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    first, *others = columns
    writer.writerow([first.title.lower(), *(column.member for column in others)])
    for line in lines:
        writer.writerow([_harmless(line.get(column.member)) for column in columns])
    return text.getvalue()


def _harmless(value: object) -> str:
    """Return a value that a spreadsheet takes for text: a formula could come from a unit."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} and not isinstance(value, int) else text
