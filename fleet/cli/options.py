"""Options that every command has, so that they mean the same everywhere."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

import click

from device_agent.wire.identity import parse_device_id, parse_domain, parse_serial
from device_agent.wire.problems import MalformedMessageError
from fleet.cli.client import Client
from fleet.cli.output import Form, visible
from fleet.cli.remote import Remote, Server
from fleet.config import load
from fleet.errors import BadInputError, UsageError
from fleet.home import open_home

_DAYS = re.compile(r"([1-9][0-9]{0,3})d", re.ASCII)
_Function = TypeVar("_Function", bound=Callable[..., None])

Place: TypeAlias = Path | Remote
"""Where the server is that a command asks: the home's own, or one elsewhere."""


def default_home() -> Path:
    """Return the place of a home that nobody named."""
    return Path.home() / ".fleet"


def _home(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    place = place_of(context, parameter, value)
    if isinstance(place, Path):
        return place
    raise UsageError("this works in a home on this machine", hint="leave --server out, or name the --home")


def place_of(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Place:
    """Return the nearest thing that was named: a home at the command, then a server, then a home."""
    root = context.find_root()
    above = root.params.get("home")
    if value is None and isinstance(root.obj, Remote):
        return root.obj
    if value is None and isinstance(root.obj, Server):
        raise UsageError(
            "a server elsewhere wants to know who asks", hint="--operator-cert PEM --operator-key PEM"
        )
    return value or (above if isinstance(above, Path) else default_home())


def _form(_context: click.Context, _parameter: click.Parameter, value: str) -> Form:
    return Form(value)


home = click.option(
    "--home",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    callback=_home,
    help="The fleet home [FLEET_HOME, else ~/.fleet].",
)

place = click.option(
    "--home",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    callback=place_of,
    help="The fleet home [FLEET_HOME, else ~/.fleet].",
)
"""For commands that ask a server, wherever it is."""

domain = click.option(
    "--domain", metavar="D", help="The security domain; needed where the fleet has several."
)

device = click.argument("device", metavar="DEVICE")

reason = click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit trail.")


def as_json(function: _Function) -> _Function:
    """Give a command that prints one object its --json."""
    return click.option(
        "--json", "form", flag_value="json", default="table", callback=_form, help="Print JSON."
    )(function)


def record(function: _Function) -> _Function:
    """Give a command that prints one object its options: --home, --json."""
    return place(as_json(function))


def listing(function: _Function) -> _Function:
    """Give a command that prints a list its options: --home, --json, --jsonl."""
    as_lines = click.option(
        "--jsonl",
        "form",
        flag_value="jsonl",
        default="table",
        callback=_form,
        help="Print one JSON object a line.",
    )
    return record(as_lines(function))


def limit(default: int | None) -> Callable[[_Function], _Function]:
    """Give a command that prints a list its --limit."""
    text = "all" if default is None else str(default)
    return click.option(
        "--limit", type=click.IntRange(1), default=default, metavar="N", help=f"At most so many [{text}]."
    )


def out(folder: str) -> Callable[[_Function], _Function]:
    """Give a command that writes files its --out."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, readable=False),
        metavar="DIR",
        help=f"Where to write them [HOME/{folder}; the working folder with --server].",
    )


def folder_of(place: Place, named: Path | None, *below: str) -> Path:
    """Return the folder for what a command writes: the one that was named, or one of the home."""
    if named is not None:
        return named
    return open_home(place).root.joinpath(*below) if isinstance(place, Path) else Path.cwd()


def domain_of(place: Place, given: str | None) -> str:
    """Return the domain that a command is about: the one that was named, or the only one.

    Raises:
        UsageError: there are several, or none of that name.
    """
    names = _domains(place)
    if given is None and len(names) == 1:
        return names[0]
    if given in names:
        return given
    what = "the fleet has several domains" if given is None else f"there is no domain {visible(given[:64])}"
    raise UsageError(what, hint=f"--domain {' or --domain '.join(names)}")


def days_of(text: str, *, such_as: str) -> int:
    """Return the number of days that is written as `14d`; raises `UsageError`."""
    found = _DAYS.fullmatch(text)
    if found is None:
        raise UsageError(f"{text} is no number of days", hint=f"write it like {such_as}")
    return int(found[1])


def identity_of(place: Place, text: str, given: str | None) -> tuple[str, str]:
    """Return domain and id of the device that an argument names, `ID` or `DOMAIN:ID`.

    Ids may hold a colon themselves: with --domain the argument is an id, and nothing but an id.

    Raises:
        UsageError: the domain is not clear.
        BadInputError: it can be no id.
    """
    if given is None:
        first, colon, rest = text.partition(":")
        if colon and first in _domains(place):
            return first, device_id(rest)
    return domain_of(place, given), device_id(text)


def _domains(place: Place) -> list[str]:
    if isinstance(place, Remote):
        found = Client(place).get("whoami")["domains"]
        return [str(name) for name in found] if isinstance(found, list) else []
    return [each.name for each in load(open_home(place).config).domains]


def _checked(parse: Callable[[object], str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        try:
            return parse(text)
        except MalformedMessageError as error:
            raise BadInputError(str(error)) from error

    return convert


device_id = _checked(parse_device_id)
"""Return a device id that came as an argument; raises `BadInputError`."""

domain_name = _checked(parse_domain)

serial = _checked(lambda text: parse_serial(str(text).lower().replace(":", "").zfill(32)))
"""Return a serial in our form; other tools write it with colons, in capitals or without leading zeros."""
