"""Which devices a command is about: some by name, or all that fit a query; shown before it acts on many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import click

from fleet.cli import options
from fleet.cli.client import Client
from fleet.cli.options import Place
from fleet.cli.output import Members, say
from fleet.errors import NotFoundError, UsageError
from fleet.terminal import can_ask

_Function = TypeVar("_Function", bound=Callable[..., None])

_AT_ONCE = 64

yes = click.option("--yes", is_flag=True, help="Do not ask before many devices are changed.")
query = click.option(
    "--query", metavar="Q", help='Devices by a query, such as "tag=outdoor and expires<30d".'
)


def many(function: _Function) -> _Function:
    """Give a command that acts on devices its ways to name them: DEVICE..., or --query, with --yes."""
    devices = click.argument("devices", metavar="[DEVICE]...", nargs=-1)
    return options.domain(devices(query(yes(function))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Devices as a command names them: by their names, or by a query."""

    names: tuple[str, ...] = ()
    query: str = ""
    is_agreed: bool = False
    """Whether nobody is to be asked."""


def chosen(
    place: Place, domain: str | None, devices: Sequence[str], query: str | None, *, yes: bool
) -> Chosen:
    """Return what was named.

    Raises:
        UsageError: nothing was, or both ways were taken.
    """
    if bool(devices) == (query is not None):
        raise UsageError("name devices, or give a --query", hint='such as --query "tag=outdoor"')
    names = (options.identity_of(place, device, domain) for device in devices)
    return Chosen(names=tuple(f"{where}:{name}" for where, name in names), query=query or "", is_agreed=yes)


def agree(client: Client, query: str, *, what: str, is_agreed: bool) -> int:
    """Show what an act would be about, and have a person agree; return how many devices it is.

    Raises:
        NotFoundError: it is about nothing.
        UsageError: nobody is there to agree, or he does not.
    """
    found = client.get("devices", "selection", query=query)
    count, names = found["devices"], found["names"]
    assert isinstance(count, int)  # noqa: S101 - our own server's answer
    assert isinstance(names, list)  # noqa: S101 - as above
    if not count:
        raise NotFoundError("no device fits the query", hint="fleet device list --query shows what does")
    more = ", ..." if count > len(names) else ""
    say(f"{what}: {count} of {found['fleet_devices']} devices: {', '.join(map(str, names))}{more}")
    if is_agreed:
        return count
    if not can_ask():
        raise UsageError("this is about devices that nobody has named one by one", hint="say so with --yes")
    if not click.confirm("go on?", err=True):
        raise UsageError("nothing was changed")
    return count


def mark(client: Client, devices: Chosen, marks: Members, *, what: str) -> Members:
    """Say something of devices, page by page; return how many were found and changed."""
    if devices.query:
        return _mark_query(client, devices, marks, what=what)
    found = changed = 0
    for start in range(0, len(devices.names), _AT_ONCE):
        names = list(devices.names[start : start + _AT_ONCE])
        done = client.post("devices", "marks", body={**marks, "names": names})
        found, changed = found + _number(done, "found"), changed + _number(done, "changed")
    return {"found": found, "changed": changed}


def _mark_query(client: Client, devices: Chosen, marks: Members, *, what: str) -> Members:
    total = agree(client, devices.query, what=what, is_agreed=devices.is_agreed)
    found = changed = 0
    after: Members = {}
    while True:
        done = client.post("devices", "marks", body={**marks, "query": devices.query, **after})
        found, changed = found + _number(done, "found"), changed + _number(done, "changed")
        if done["next"] is None:
            return {"found": found, "changed": changed}
        say(f"{found} of {total}")
        after = {"after": done["next"]}


def _number(done: Members, name: str) -> int:
    value = done[name]
    assert isinstance(value, int)  # noqa: S101 - our own server's answer
    return value
