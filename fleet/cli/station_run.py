"""`fleet station run`: the line itself."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack

import click

from fleet.cli import options
from fleet.cli.options import Place
from fleet.cli.output import Form, say
from fleet.terminal import is_shown

if TYPE_CHECKING:
    from fleet.cli.line_given import Given

_Function = TypeVar("_Function", bound=Callable[..., None])

_DRIVERS = (
    "smp",
    "nrf91-at",
    "ncs-shell",
    "zephyr-cred",
    "esp-atecc",
    "esp-image",
    "microchip-manifest",
)
"""Named here, so that help needs none of their packages; `fleet.station.drivers.choice.Name` has the same."""

_OPTIONS = (
    click.option("--jsonl", "form", flag_value="jsonl", default="table", help="Print a JSON object a step."),
    click.option("--port", "ports", multiple=True, metavar="P", help="A serial port; may be repeated."),
    click.option(
        "--usb",
        multiple=True,
        metavar="VID:PID[:SERIAL]",
        help="USB adapters, such as 0403:6001: each that is plugged in is a lane; may be repeated.",
    ),
    click.option("--station", "name", metavar="NAME", help="Which station this is; else local."),
    click.option("--batch", default="", metavar="NAME", help="What units are for; else its first."),
    click.option(
        "--ids",
        type=click.Path(path_type=Path),
        metavar="CSV",
        help="hardware_id,device_id: only these are served.",
    ),
    click.option("--prefix", metavar="TEXT", help="Ids for units that ask for none: it and four digits."),
    click.option(
        "--model", "models", multiple=True, metavar="TEXT", help="Only such units; may be repeated."
    ),
    click.option(
        "--baud", type=click.IntRange(1200, 4_000_000), default=115200, metavar="N", help="[115200]"
    ),
    click.option(
        "--driver",
        type=click.Choice(_DRIVERS),
        default="smp",
        help="How the devices are spoken to: smp is our own factory link.",
    ),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the driver."),
    click.option(
        "--host-keys",
        is_flag=True,
        help="Let the station make the keys, where devices cannot (lower assurance).",
    ),
    click.option("--language", metavar="CODE", help="Of the screen: de, en, zh; else that of the terminal."),
    click.option("--headless", is_flag=True, help="Print a line for each step, on a terminal too."),
    click.option(
        "--scanner",
        type=click.Choice(["label", "id"]),
        help="A bar-code scanner types on standard input: what it reads is kept as the unit's label, or is"
        " its device id. No unit goes on without one.",
    ),
    click.option("--jig", metavar="COMMAND", help="Asked before each commit: 0 good, 75 not now, else bad."),
    click.option("--jig-seconds", type=click.FloatRange(0.1, 3600), default=60.0, metavar="N", help="[60]"),
    click.option(
        "--results",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Append what became of each unit: .jsonl or .csv.",
    ),
    click.option("--results-url", metavar="URL", help="Post it there, until it is taken."),
    click.option(
        "--results-secret-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The secret that posts are signed with.",
    ),
    click.option("--label", metavar="TEMPLATE", help="text, zpl, png, or a file: .txt, .zpl, .png.txt"),
    click.option("--printer", metavar="P", help="Of labels: tcp:HOST[:9100], or a command that reads them."),
)


def _missing(ports: tuple[str, ...]) -> tuple[str, ...]:
    from fleet.station.link.port import is_there  # noqa: PLC0415 - the station's parts, needed here only

    return tuple(port for port in dict.fromkeys(ports) if not is_there(port))


def _all(function: _Function) -> _Function:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command("run")
@options.place
@_all
def command(home: Place, form: str, **given: "Unpack[Given]") -> None:
    """Serve devices on serial ports, all at once; a device that is plugged in needs no key press.

    A device that was interrupted goes on where it stood, and none is done twice. On a computer of its own,
    a station shows its certificate: fleet --server URL --operator-cert line3.crt --operator-key line3.key
    --trust server.pem station run ...
    """
    from fleet.cli.lanes import shown  # noqa: PLC0415 - the station's parts, needed here only
    from fleet.cli.line import run_line  # noqa: PLC0415 - as above
    from fleet.cli.line_given import line_of  # noqa: PLC0415 - as above
    from fleet.cli.screen.language import Language, own_code  # noqa: PLC0415 - as above

    line = line_of(home, given)
    texts = Language.load(given["language"] or own_code())
    live = is_shown() and not given["headless"]
    for port in _missing(line.ports):
        say(f"there is no port {port} yet: its lane waits until it is plugged in")
    with shown(Form(form), language=texts, station=line.place.station, live=live) as screen:
        asyncio.run(run_line(line, screen))
    say(f"{screen.board.passed} passed, {screen.board.failed} failed")
