"""`fleet forecast simulate`: what a fleet does to its server at once, by the code of both; without a home."""

import random
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import click

from fleet.cli import options
from fleet.cli.output import Form, Members, show_list, write_text
from fleet.cli.table import Column
from fleet.core.herd import Herd, Load, Stampede, fallen_broker, lost_ca, midnight, outage
from fleet.core.profile import DEFAULT_PROFILES
from fleet.errors import UsageError
from fleet.model import Purpose
from fleet.window_section import WindowsConfig

_LENGTH = re.compile(r"([1-9][0-9]{0,3})([hd])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Any day does."""
_COLUMNS = (
    Column(title="WHAT", member="name", whole=True),
    Column(title="DEVICES", member="devices", whole=True),
    Column(title="WITH", member="how", whole=True),
    Column(title="PEAK/S", member="peak", whole=True),
    Column(title="TRIES", member="tries", whole=True),
    Column(title="OVER IN", member="lasts", whole=True),
    Column(title="ENDED", member="ended", whole=True),
)


@click.command()
@click.option("--devices", type=click.IntRange(1000, 10_000_000), default=1_000_000, help="[1000000]")
@click.option("--lifetime-days", type=click.IntRange(1, 3650), default=90, help="Of a certificate [90].")
@click.option("--outage", "length", metavar="24h", default="24h", help="How long nothing is renewed [24h].")
@click.option("--within", metavar="24h", default="24h", help="How fast a lost CA is replaced [24h].")
@click.option("--handshakes", type=click.IntRange(1), default=400, help="TLS connections a second [400].")
@click.option(
    "--a-second",
    type=click.IntRange(1),
    default=WindowsConfig().a_second,
    help="As [windows] a_second says, at which pace a backlog is drained [50].",
)
@click.option("--seed", type=int, default=1, help="Another one, another chance [1].")
@options.as_json
def simulate(form: Form, **given: str | int) -> None:
    """Simulate a fleet that does something all at once, with the scheduler of the agent and of the server.

    For each thing that happens: the busiest second, how often the server is asked in all, and how long until
    every device is through; NAIVE without our windows and back-off, OURS with them. ENDED are certificates
    that ended before they were renewed. A million devices take some ten seconds.
    """
    found = list(_stampedes(given))
    if form is Form.TABLE:
        _show(found)
    else:
        show_list([_members(one) for one in found], form, columns=(), empty="")


def _stampedes(given: dict[str, str | int]) -> Iterable[Stampede]:
    profile = DEFAULT_PROFILES[Purpose.DEVICE]
    herd = Herd(
        devices=int(given["devices"]),
        profile=replace(profile, lifetime=timedelta(days=int(given["lifetime_days"]))),
        a_second=float(given["a_second"]),
        handshakes=int(given["handshakes"]),
    )
    length, within = _length(str(given["length"])), _length(str(given["within"]))
    chance = random.Random(int(given["seed"])).random  # noqa: S311 - a simulation
    yield midnight(herd, chance, now=_NOW)
    yield outage(herd, chance, now=_NOW, length=length)
    yield lost_ca(herd, chance, now=_NOW, within=within)
    yield fallen_broker(herd, chance)


def _length(text: str) -> timedelta:
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise UsageError(f"{text} is no length of time", hint="write it like 24h or 14d")
    return int(found[1]) * _UNITS[found[2]]


def _members(one: Stampede) -> Members:
    return {
        "name": one.name,
        "about": one.about,
        "devices": one.devices,
        "before": _load(one.before),
        "after": _load(one.after),
        "ended": one.ended,
    }


def _load(load: Load) -> Members:
    return {
        "peak": round(load.peak, 1),
        "tries": round(load.tries),
        "seconds": round(load.lasts.total_seconds()),
    }


def _show(found: Iterable[Stampede]) -> None:
    rows: list[Members] = []
    for one in found:
        what: Members = {"name": one.name, "devices": f"{one.devices:,}"}
        rows += [
            {**what, "how": "naive", **_shown(one.before)},
            {**what, "how": "ours", **_shown(one.after), "ended": one.ended},
        ]
    show_list(rows, Form.TABLE, columns=_COLUMNS, empty="")
    write_text("")
    for one in found:
        write_text(f"{one.name}: {one.about}")


def _shown(load: Load) -> Members:
    return {"peak": f"{load.peak:,.0f}", "tries": f"{load.tries:,.0f}", "lasts": _words(load.lasts)}


def _words(length: timedelta) -> str:
    seconds = length.total_seconds()
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
