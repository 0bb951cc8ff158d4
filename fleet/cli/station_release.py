"""`fleet station release`, `reprint`: units that a person looked at, and labels printed once more."""

import asyncio
from datetime import UTC, datetime

import click

from fleet.cli import options
from fleet.cli.client import with_client
from fleet.cli.options import Place
from fleet.cli.output import Form, Members, say, show_record
from fleet.cli.workplace import Workplace, place_of
from fleet.errors import NotFoundError
from fleet.station.telling.book import Book, Kind

_NAMES = {"hardware": "unit", "device": "device", "station": "station", "fate": "fate"}


@click.command()
@options.record
@click.option("--rework", is_flag=True, help="It is made anew, with another key; else it goes on as it is.")
@options.reason
@click.argument("unit")
def release(home: Place, form: Form, *, rework: bool, reason: str, unit: str) -> None:
    """Let a unit out of quarantine, by its hardware id or device id; its station learns it at its next sync.

    As it is needs the role security, for it was doubted; to rework needs the role operator.
    """
    act = "rework" if rework else "release"
    body = {"reason": reason} if reason else {}
    found = with_client(home, lambda client: client.post("units", unit, act, body=body))
    show_record(found, form, names=_NAMES)


@click.command()
@options.record
@click.option("--station", "name", metavar="NAME", help="Which station this is; else local.")
@click.argument("unit")
def reprint(home: Place, form: Form, *, name: str | None, unit: str) -> None:
    """Print the label of a unit once more, by its hardware id or what was scanned for it, while it runs."""
    place = place_of(home, name)
    labels = asyncio.run(_again(place, unit))
    if not labels:
        raise NotFoundError(f"no label was printed for unit {unit} here", hint="fleet station run --label")
    found: Members = {"unit": unit, "station": place.station, "labels": labels}
    show_record(found, form, names={name: name for name in found})
    say(f"the label of {unit} is printed next")


async def _again(place: Workplace, unit: str) -> int:
    async with Book.opened(place.book, clock=lambda: datetime.now(UTC)) as book:
        return await book.again(Kind.LABEL, unit)


COMMANDS = (release, reprint)
