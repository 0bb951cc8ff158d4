"""`fleet forecast`: what ends when, what an outage of the CAs would cost, and what a fleet does at once."""

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.forecast_simulate import simulate
from fleet.cli.options import Place
from fleet.cli.output import Form, Json, Members, cell, items_of, say, show_list, write_json, write_text
from fleet.cli.table import Column
from fleet.core.forecast import HORIZONS
from fleet.errors import ExitCode

_WITHIN = tuple(f"{horizon.days}d" for horizon in HORIZONS)
_LINES = (
    Column(title="WHAT", member="kind"),
    Column(title="NEXT END", member="next"),
    *(Column(title=f"IN {days.upper()}", member=days) for days in _WITHIN),
)
_WEEKS = (
    Column(title="WEEK OF", member="begins"),
    Column(title="RENEWALS", member="renewals"),
    Column(title="BUSIEST HOUR", member="busiest_hour"),
    Column(title="ENDS", member="ends"),
)
_DARK = tuple(Column(title=name.upper(), member=name) for name in ("day", "dark", "lost"))
_DEVICES = (
    Column(title="DEVICE", member="device_id", whole=True),
    Column(title="DOMAIN", member="domain"),
    Column(title="CERTIFICATE ENDS", member="not_after"),
    Column(title="LOST", member="lost"),
)


@click.group(invoke_without_command=True)
@click.option("--ca-down", metavar="14d", help="What if no CA signs from now on, for so many days?")
@click.option("--query", metavar="Q", help='Of these devices alone, such as "group=pilot".')
@click.option("--weeks", type=click.IntRange(1, 520), help="Week by week, so many.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="Name at most so many devices [20].")
@options.record
@click.pass_context
def command(
    context: click.Context,
    home: Place,
    form: Form,
    *,
    ca_down: str | None,
    query: str | None,
    weeks: int | None,
    limit: int,
) -> None:
    """Show what ends within 1, 7, 30 and 90 days; exit code 7: something needs attention.

    With --ca-down, which devices an outage of the CAs would cut off: DARK come back by themselves once a CA
    signs again, LOST need somebody's code. With --weeks, also how many renewals are planned.
    """
    if context.invoked_subcommand is not None:
        return
    days = None if ca_down is None else options.days_of(ca_down, such_as="14d")
    found = with_client(
        home,
        lambda client: client.get("forecast", limit=limit, ca_down_days=days, query=query, weeks=weeks),
    )
    if form is Form.TABLE:
        _show(found)
    else:
        write_json(found)
    context.exit(ExitCode.NEEDS_ATTENTION if found["attention"] else ExitCode.DONE)


command.add_command(simulate)


def _show(found: Members) -> None:
    rows = [_line(line) for line in items_of(found["lines"])]
    show_list(rows, Form.TABLE, columns=_LINES, empty="nothing ends within 90 days")
    if weeks := items_of(found["weeks"]):
        write_text("")
        show_list([_week(week) for week in weeks], Form.TABLE, columns=_WEEKS, empty="")
    outage = found["outage"]
    if isinstance(outage, dict):
        _show_outage(outage)
    attention = found["attention"]
    assert isinstance(attention, list)  # noqa: S101 - our own server's answer
    for text in attention:
        say(f"attention: {text}")


def _show_outage(outage: Members) -> None:
    write_text(f"\nif no CA signs until {cell(outage['until'])}:")
    show_list(items_of(outage["days"]), Form.TABLE, columns=_DARK, empty="no device goes dark")
    if devices := items_of(outage["devices"]):
        write_text("\nthe first of them:")
        show_list(devices, Form.TABLE, columns=_DEVICES, empty="")


def _line(line: Members) -> Members:
    within = line["within"]
    assert isinstance(within, list)  # noqa: S101 - our own server's answer
    counted: dict[str, Json] = dict(zip(_WITHIN, within, strict=True))
    return {"kind": line["kind"], "next": line["next"], **counted}


def _week(week: Members) -> Members:
    ends = week["ends"]
    assert isinstance(ends, dict)  # noqa: S101 - our own server's answer
    return {**week, "ends": ", ".join(f"{count} {kind}" for kind, count in ends.items())}
