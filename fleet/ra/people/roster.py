"""Registers the devices of a list, with what their makers say they come with: all of it is right, or refused.

A list is read and held against the store as a whole before anything is written, and then written in parts, so
that devices are answered in between. A crash in the middle leaves the first of them; the same list may come
again.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from device_agent.wire.identity import Identity
from fleet.core.things import Thing
from fleet.errors import BadInputError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.devices import Enlisting, enlist, require_domain
from fleet.ra.people.roster_rows import ImportFormat, Roster, Row, rows_of, wrong
from fleet.store import audit, listed
from fleet.store.listed import Listing

__all__ = ["ImportFormat", "Imported", "Roster", "import_devices", "read_rows"]

MAX_TEXT_LENGTH = 32 * 1024 * 1024
MAX_DEVICES = 100_000

_AT_ONCE = 2000
"""Rows of one unit of work, and of one turn of reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How many devices a list held, how many of them were new, and how many things of devices were."""

    listed: int
    registered: int
    things: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    rows: Sequence[Row]
    source: str
    actor: str
    at: datetime


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What was seen of a list so far."""

    rows: list[Row] = field(default_factory=list)
    places: dict[Identity, str] = field(default_factory=dict)
    owners: dict[tuple[str, Thing], Row] = field(default_factory=dict)

    def take(self, row: Row) -> None:
        """Take the next row; raises `BadInputError` where an earlier one speaks of the same."""
        identity = row.registration.identity
        if identity in self.places:
            raise wrong(row.place, f"{identity.name} is listed twice, first at {self.places[identity]}")
        if len(self.rows) == MAX_DEVICES:
            raise BadInputError(f"the list holds more than {MAX_DEVICES} devices", hint="split it")
        for thing in row.things:
            other = self.owners.setdefault((identity.domain, thing), row)
            if other is not row:
                name = other.registration.identity.name
                raise wrong(row.place, f"its {thing.kind} is that of {name} at {other.place}")
        self.places[identity] = row.place
        self.rows.append(row)


async def import_devices(desk: Desk, roster: Roster, *, actor: str) -> Imported:
    """Register the devices of a list; those registered already stay as they are, so a list may come twice.

    Raises:
        BadInputError: a row is wrong, or speaks of what is another's; nothing was registered.
        NotFoundError: the configuration has no such domain; nothing was registered.
    """
    rows = await read_rows(roster)
    for domain in sorted({row.registration.identity.domain for row in rows}):
        require_domain(desk, domain)
    parts = [rows[first : first + _AT_ONCE] for first in range(0, len(rows), _AT_ONCE)]
    known = sum([await desk.store.read(_known_things, part) for part in parts])
    source = actor if roster.signer is None else roster.signer.source
    new = 0
    for part in parts:
        taking = _Part(rows=part, source=source, actor=actor, at=desk.clock())
        new += await desk.store.write(_take, taking)
    things = sum(len(row.things) for row in rows) - known
    imported = Imported(listed=len(rows), registered=new, things=things)
    await desk.store.write(audit.append, _entry(desk, roster, imported, actor=actor, source=source))
    return imported


async def read_rows(roster: Roster) -> tuple[Row, ...]:
    """Return what a list holds; others have their turn in between. Raises `BadInputError`."""
    if len(roster.text) > MAX_TEXT_LENGTH:
        raise BadInputError(f"the list is longer than {MAX_TEXT_LENGTH} characters", hint="split it")
    reading, rows = _Reading(), rows_of(roster)
    while part := list(islice(rows, _AT_ONCE)):
        for row in part:
            reading.take(row)
        await asyncio.sleep(0)
    return tuple(reading.rows)


async def _known_things(tx: Transaction, rows: Sequence[Row]) -> int:
    """Return how many things are listed already; raises `BadInputError` where one is another device's."""
    known = 0
    for domain in {row.registration.identity.domain for row in rows}:
        own = [row for row in rows if row.registration.identity.domain == domain]
        owners = await listed.owners(tx, domain, [thing for row in own for thing in row.things])
        for row in own:
            for thing in owners.keys() & row.things:
                if owners[thing] != row.registration.identity.device_id:
                    raise wrong(row.place, f"its {thing.kind} is listed for {domain}:{owners[thing]}")
                known += 1
    return known


async def _take(tx: Transaction, part: _Part) -> int:
    await _known_things(tx, part.rows)  # another list may have come in between
    registrations = tuple(row.registration for row in part.rows)
    new = await enlist(tx, Enlisting(registrations=registrations, actor=part.actor, at=part.at))
    listings = [
        Listing(thing=thing, identity=row.registration.identity, source=part.source, listed_at=part.at)
        for row in part.rows
        for thing in row.things
    ]
    await listed.insert_listings(tx, listings)
    return new


def _entry(desk: Desk, roster: Roster, imported: Imported, *, actor: str, source: str) -> AuditEntry:
    return AuditEntry(
        at=desk.clock(),
        action="devices.imported",
        actor=actor,
        domain=roster.domain,
        details=(
            ("listed", str(imported.listed)),
            ("registered", str(imported.registered)),
            ("things", str(imported.things)),
            ("source", source),
            ("sha256", hashlib.sha256(roster.text.encode()).hexdigest()),
        ),
    )
