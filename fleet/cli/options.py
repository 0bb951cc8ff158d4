"""Options that every command has, so that they mean the same everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from device_agent.wire.identity import parse_device_id, parse_domain, parse_serial
from device_agent.wire.problems import MalformedMessageError
from fleet.cli.output import Form, visible
from fleet.config import load
from fleet.errors import BadInputError, UsageError
from fleet.home import open_home

_Function = TypeVar("_Function", bound=Callable[..., None])


def default_home() -> Path:
    """Return the place of a home that nobody named."""
    return Path.home() / ".fleet"


def _home(context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    above = context.find_root().params.get("home")
    return value or (above if isinstance(above, Path) else default_home())


def _form(_context: click.Context, _parameter: click.Parameter, value: str) -> Form:
    return Form(value)


home = click.option(
    "--home",
    type=click.Path(path_type=Path),
    metavar="DIR",
    callback=_home,
    help="The fleet home [FLEET_HOME, else ~/.fleet].",
)

domain = click.option(
    "--domain", metavar="D", help="The security domain; needed where the fleet has several."
)

device = click.argument("device", metavar="DEVICE")

reason = click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit trail.")


def record(function: _Function) -> _Function:
    """Give a command that prints one object its options: --home, --json."""
    as_json = click.option(
        "--json", "form", flag_value="json", default="table", callback=_form, help="Print JSON."
    )
    return home(as_json(function))


def listing(function: _Function) -> _Function:
    """Give a command that prints a list its options: --home, --json, --jsonl."""
    as_lines = click.option("--jsonl", "form", flag_value="jsonl", help="Print one JSON object a line.")
    return record(as_lines(function))


def limit(default: int | None) -> Callable[[_Function], _Function]:
    """Give a command that prints a list its --limit."""
    text = "all" if default is None else str(default)
    return click.option(
        "--limit", type=click.IntRange(1), default=default, metavar="N", help=f"At most so many [{text}]."
    )


def domain_of(place: Path, given: str | None) -> str:
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


def identity_of(place: Path, text: str, given: str | None) -> tuple[str, str]:
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


def _domains(place: Path) -> list[str]:
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
