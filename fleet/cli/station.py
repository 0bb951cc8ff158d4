"""`fleet station ...`: factory stations, and the line itself."""

import asyncio
from pathlib import Path

import click

from fleet.cli import options, station_keep, station_people
from fleet.cli.output import Form, say
from fleet.errors import NotFoundError, UsageError
from fleet.home import Home, open_home
from fleet.terminal import is_shown

_LOCAL = "local"
"""The station that `fleet init` makes, of the first domain."""


@click.group()
def command() -> None:
    """Factory stations: computers that give devices their certificates over a serial line."""


for each in (*station_keep.COMMANDS, station_people.command):
    command.add_command(each)


@command.command()
@options.home
@click.option("--jsonl", "form", flag_value="jsonl", default="table", help="Print one JSON object a step.")
@click.option(
    "--port", "ports", multiple=True, required=True, metavar="P", help="A serial port; may be repeated."
)
@click.option("--station", "name", metavar="NAME", help="Which station this is; else local.")
@click.option(
    "--ids",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="hardware_id,device_id: only these are served.",
)
@click.option("--prefix", metavar="TEXT", help="Ids for units that ask for none: the prefix and four digits.")
@click.option("--baud", type=click.IntRange(1200, 4_000_000), default=115200, metavar="N", help="[115200]")
@click.option("--language", metavar="CODE", help="Of the screen: de, en, zh; else that of the terminal.")
@click.option("--headless", is_flag=True, help="Print a line for each step, on a terminal too.")
def run(
    home: Path,
    form: str,
    *,
    ports: tuple[str, ...],
    name: str | None,
    ids: Path | None,
    prefix: str | None,
    baud: int,
    language: str | None,
    headless: bool,
) -> None:
    """Serve devices on serial ports, all at once; a device that is plugged in needs no key press.

    A device that was interrupted goes on where it stood, and none is done twice.
    """
    from fleet.cli.lanes import shown  # noqa: PLC0415 - the station's parts, needed here only
    from fleet.cli.line import Line, run_line  # noqa: PLC0415 - as above
    from fleet.cli.screen.language import Language, own_code  # noqa: PLC0415 - as above
    from fleet.station.ids import IdRule  # noqa: PLC0415 - as above

    place = open_home(home)
    line = Line(
        home=place,
        station=name or _station_of(place),
        ports=ports,
        ids=IdRule(prefix=prefix) if ids is None else IdRule.from_list(ids),
        baud=baud,
    )
    texts = Language.load(language or own_code())
    with shown(Form(form), language=texts, station=line.station, live=is_shown() and not headless) as screen:
        asyncio.run(run_line(line, screen))
    say(f"{screen.board.passed} passed, {screen.board.failed} failed")


def _station_of(home: Home) -> str:
    names = sorted(path.stem for path in home.stations.glob("*.crt")) if home.stations.is_dir() else []
    if len(names) == 1 or _LOCAL in names:
        return _LOCAL if _LOCAL in names else names[0]
    if not names:
        raise NotFoundError("this home has no station", hint="fleet station add line1 --batch NAME")
    raise UsageError("this home has several stations", hint=f"--station {' or --station '.join(names)}")
