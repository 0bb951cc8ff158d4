"""The flags by which a simple rollout is planned without a file: written as the TOML that a file holds."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import click

from fleet.core.rollout import RolloutKind
from fleet.core.rollout_plan import OnHalt

Value: TypeAlias = str | int | float | tuple[str, ...] | None
_Function = TypeVar("_Function", bound=Callable[..., None])

_ROLLOUT = (
    "name",
    "kind",
    "select",
    "percentage",
    "profile",
    "ca",
    "realm",
    "waves",
    "rate_per_minute",
    "windows",
    "ends",
    "on_halt",
    "note",
)
_GATE = ("updated", "failed", "least", "patience", "soak")


def is_given(flags: Mapping[str, Value]) -> bool:
    """Tell whether any flag was."""
    return any(value not in (None, ()) for value in flags.values())


def toml_of(flags: Mapping[str, Value]) -> str:
    """Return the plan that flags say."""
    return "\n".join(["[rollout]", *_lines(flags, _ROLLOUT), "[gate]", *_lines(flags, _GATE), ""])


def _lines(flags: Mapping[str, Value], names: Sequence[str]) -> list[str]:
    # Texts, numbers and lists of texts of JSON are TOML's, too, but for characters written as two escapes.
    given = ((name, flags[name]) for name in names)
    return [
        f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}"
        for name, value in given
        if value not in (None, ())
    ]


_OPTIONS = (
    click.option("--name", metavar="NAME", help="What it is called."),
    click.option(
        "--kind", type=click.Choice([kind.value for kind in RolloutKind]), help="What is changed [rekey]."
    ),
    click.option("--select", metavar="QUERY", help="Which devices: group=pilot, 'all', tag=outdoor ..."),
    click.option("--percentage", type=float, metavar="P", help="Of those, the same ones each time [100]."),
    click.option("--profile", metavar="DOMAIN/NAME", help="The new profile (kind profile)."),
    click.option("--ca", metavar="DOMAIN/NAME", help="The new issuing CA (kind ca)."),
    click.option("--realm", metavar="REALM", help="Whose prepared trust bundle (kind trust)."),
    click.option(
        "--wave", "waves", multiple=True, metavar="SIZE", help="50, 10%, rest or a query; the pilot first."
    ),
    click.option("--rate", "rate_per_minute", type=int, metavar="N", help="Devices told a minute [60]."),
    click.option(
        "--window", "windows", multiple=True, metavar="W", help="'mon-fri 22:00-04:00 Europe/Berlin'."
    ),
    click.option("--ends", metavar="TIME", help="It must be over by then: 2027-03-31T18:00:00+02:00."),
    click.option(
        "--on-halt",
        type=click.Choice([act.value for act in OnHalt]),
        help="What a halt by failures does [stop].",
    ),
    click.option("--note", metavar="TEXT", help="What it is for."),
    click.option("--updated", type=float, metavar="SHARE", help="So many must come back well [0.95]."),
    click.option("--failed", type=float, metavar="SHARE", help="So many may fail [0.01]."),
    click.option("--least", type=int, metavar="N", help="So many must come back at least [1]."),
    click.option("--patience", metavar="LENGTH", help="How long each has to come back [1h]."),
    click.option("--soak", metavar="LENGTH", help="How long all must stay well [1h]."),
)


def flags(function: _Function) -> _Function:
    """Give a command these flags."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
