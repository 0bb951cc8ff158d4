"""Follows what happens in a fleet, entry by entry, over connections that break now and then.

It goes on after the last entry that it showed, so that none is missed and none is shown twice.
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fleet.cli.client import Client, is_served
from fleet.cli.output import Form, Members, cell, say, write_line, write_text
from fleet.cli.remote import Remote
from fleet.errors import UnreachableError
from fleet.home import open_home

_AGAIN_SECONDS = 2.0


def require_served(place: Path | Remote) -> None:
    """Refuse to listen in a home in which nothing can happen.

    Raises:
        NotFoundError: there is no home.
        UnreachableError: no server of this home runs.
    """
    if isinstance(place, Path) and not is_served(open_home(place)):
        raise UnreachableError("no server of this home runs, so nothing happens there", hint="fleet serve")


def events(client: Client, *, after: int) -> Iterator[Members]:
    """Yield the entries after a number as they come, without an end: a server that is gone may come back.

    Raises:
        FleetError: what it said.
    """
    while True:
        with suppress(UnreachableError):
            for entry in _stream(client, after):
                after = int(str(entry["number"]))
                yield entry
        say("the stream has ended; listening again")
        time.sleep(_AGAIN_SECONDS)


def _stream(client: Client, after: int) -> Iterator[Members]:
    """Yield the events of one connection (HTML 9.2.6), of which the data says everything."""
    for line in client.lines("events", after=after):
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "data":
            yield json.loads(value)


def show_events(entries: Iterable[Members], form: Form) -> None:
    """Print entries one by one as they come: columns wait for no width, and programs get JSON lines."""
    for entry in entries:
        if form is Form.JSONL:
            write_line(entry)
        else:
            write_text(_line(entry))


def _line(entry: Members) -> str:
    about = ":".join(str(entry[name]) for name in ("domain", "device_id") if entry[name])
    parts = (
        f"{cell(entry['at'])}  {cell(entry['action']):<24}",
        cell(entry["actor"]),
        about,
        _details(entry),
    )
    return "  ".join(part for part in parts if part)


def _details(entry: Members) -> str:
    details = entry["details"]
    return cell(details) if details else ""
