"""What a station made, in a SQLite file of its own: it survives power cuts and outlives the server's absence.

It keeps and returns; it decides nothing. Each method is one transaction, on the disk when it returns; what
becomes of a unit or a certificate is told by the journal, in the same one.
"""

import base64
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Self, TypeAlias

from fleet.core.journal import Head, Kind, SignedEntry
from fleet.core.lease import SignedLease, parse_lease, parse_signed
from fleet.core.station_recall import Fate, given_text
from fleet.errors import RefusedError
from fleet.model import KeyOrigin
from fleet.station.keeping.journal import Journal
from fleet.station.keeping.ledger_rows import (
    finished_rows,
    insert_adopted,
    insert_request,
    keep_package,
    load_unit,
    move,
    prepare,
    queued_rows,
    unsynced_rows,
)
from fleet.station.keeping.life import UnitEvent, UnitState
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Attempt, Unit
from fleet.station.keeping.workshop import Made
from fleet.station.keeping.writer import GroupWriter
from fleet.station.own.identity import StationIdentity

Sign: TypeAlias = Callable[[int, datetime | None], Made]
"""Makes a certificate under a number of the lease; the time is the latest that the journal knows."""


class Ledger:
    """The ledger of one station, shared by its lanes."""

    def __init__(
        self, writer: GroupWriter, *, clock: Callable[[], datetime], identity: StationIdentity
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._journal = Journal(identity)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, path: Path, *, clock: Callable[[], datetime], identity: StationIdentity
    ) -> AsyncIterator[Self]:
        """Open the ledger, or make it with mode 0600; `identity` signs its journal.

        Raises:
            StoreError: the file cannot be opened, or is of a later version of this program.
        """
        what = f"the station's ledger {path}"
        async with GroupWriter.opened(path, what=what, prepare=prepare) as writer:
            yield cls(writer, clock=clock, identity=identity)

    def take(self, identity: StationIdentity) -> None:
        """Let another identity of this station sign the journal from now on."""
        self._journal.identity = identity

    async def find(self, hardware_id: str) -> Unit | None:
        """Return a unit, or None where it was never here."""
        return await self._writer.run(lambda db: load_unit(db, hardware_id))

    async def owner_of(self, device_id: str) -> str | None:
        """Return the hardware id that a device id is reserved for."""

        def work(db: sqlite3.Connection) -> str | None:
            row = db.execute("SELECT hardware_id FROM units WHERE device_id = ?", (device_id,)).fetchone()
            return None if row is None else str(row[0])

        return await self._writer.run(work)

    async def next_number(self, prefix: str) -> int:
        """Return the next number of a prefix, from 1; it is never given out again."""

        def work(db: sqlite3.Connection) -> int:
            (last,) = db.execute(
                "INSERT INTO numbers (prefix, last) VALUES (?, 1)"
                " ON CONFLICT (prefix) DO UPDATE SET last = last + 1 RETURNING last",
                (prefix,),
            ).fetchone()
            return int(last)

        return await self._writer.run(work)

    async def reserve(
        self, hardware_id: str, *, device_id: str, model: str, batch: str = "", prefix: str = ""
    ) -> None:
        """Reserve a device id for a unit, which is made for a batch; empty is the station's first.

        `prefix` is the one under which the id was counted, if it was.

        Raises:
            RefusedError: the id is another unit's.
        """

        def work(db: sqlite3.Connection) -> None:
            try:
                db.execute(
                    "INSERT INTO units (hardware_id, device_id, model, batch, prefix, found_at)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (hardware_id) DO UPDATE SET"
                    " prefix = CASE WHEN device_id IS NULL THEN excluded.prefix ELSE prefix END,"
                    " device_id = coalesce(device_id, excluded.device_id), model = excluded.model,"
                    " batch = CASE WHEN batch = '' THEN excluded.batch ELSE batch END",
                    (hardware_id, device_id, model, batch, prefix, self._now()),
                )
            except sqlite3.IntegrityError as error:
                raise RefusedError(f"device id {device_id} is reserved for another unit") from error

        await self._writer.run(work)

    async def renumber(self, hardware_id: str, *, device_id: str) -> None:
        """Give a unit another id than the one that was counted for it; what was asked under that is void.

        Raises:
            RefusedError: it has a certificate, and with that its id for ever; nothing changed.
        """

        def work(db: sqlite3.Connection) -> None:
            unit = load_unit(db, hardware_id)
            if unit is None or any(one.package for one in unit.generations):
                raise RefusedError(f"unit {hardware_id} has a certificate, and keeps its id")
            db.execute("DELETE FROM generations WHERE hardware_id = ?", (hardware_id,))
            db.execute(
                "UPDATE units SET former = device_id, device_id = ? WHERE hardware_id = ?",
                (device_id, hardware_id),
            )
            told = {"hardware": hardware_id, "device": device_id, "before": unit.device_id or ""}
            self._tell(db, Kind.RENUMBERED, told)

        await self._writer.run(work)

    async def add_request(self, hardware_id: str, csr: bytes, *, key: KeyOrigin = KeyOrigin.DEVICE) -> None:
        """Keep a unit's CSR (DER) as its next generation; one that is there already stays.

        Raises:
            RefusedError: another unit has shown the same one; its code is KEY_IN_USE.
        """

        await self._writer.run(lambda db: insert_request(db, hardware_id, csr, key=key, at=self._now()))

    async def adopt(self, hardware_id: str, *, package: Package, state: UnitState) -> None:
        """Take in what another station made for a reserved unit; one that is known already stays as it is."""
        at = self._now()
        await self._writer.run(lambda db: insert_adopted(db, hardware_id, package, state=state, at=at))

    async def last_number(self, prefix: str) -> int | None:
        """Return the last number of a prefix that was given out; None before the first."""

        def work(db: sqlite3.Connection) -> int | None:
            row = db.execute("SELECT last FROM numbers WHERE prefix = ?", (prefix,)).fetchone()
            return None if row is None else int(row[0])

        return await self._writer.run(work)

    async def skip_numbers(self, prefix: str, *, to: int) -> None:
        """Give out only numbers after this one."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO numbers (prefix, last) VALUES (?, ?)"
                " ON CONFLICT (prefix) DO UPDATE SET last = max(last, excluded.last)",
                (prefix, to),
            )

        await self._writer.run(work)

    async def add_package(self, hardware_id: str, *, number: int, package: Package) -> None:
        """Keep what was issued for a generation, and revoke the generations before it, in one commit."""
        await self._writer.run(lambda db: self._issue(db, hardware_id, number, package, (Kind.ISSUED, {})))

    async def take_lease(self, signed: SignedLease, *, crl: bytes) -> None:
        """Sign under a lease from now on, in place of the one before; one that was taken stays as it is."""
        lease = parse_lease(signed.octets)

        def work(db: sqlite3.Connection) -> None:
            row = db.execute(
                "INSERT INTO leases (lease, signed, next_number) VALUES (?, ?, ?)"
                " ON CONFLICT (lease) DO NOTHING RETURNING lease",
                (lease.lease, signed.encode(), lease.first),
            ).fetchone()
            if row is not None:
                details = {"lease": lease.lease, "crl": base64.b64encode(crl).decode()}
                self._tell(db, Kind.LEASED, details)

        await self._writer.run(work)

    async def lease(self) -> tuple[SignedLease, int] | None:
        """Return the newest lease, and the next number of it that is free."""

        def work(db: sqlite3.Connection) -> tuple[SignedLease, int] | None:
            row = db.execute("SELECT signed, next_number FROM leases ORDER BY lease DESC LIMIT 1").fetchone()
            return None if row is None else (parse_signed(bytes(row[0])), int(row[1]))

        return await self._writer.run(work)

    async def add_made(self, hardware_id: str, *, number: int, sign: Sign) -> Package:
        """Sign for a generation under the newest lease, and keep what was made, in one commit.

        `sign` is given the next number of the lease and the latest time that is known to be over; the number
        is used with the commit, and never again.

        Raises:
            FleetError: whatever `sign` raises; nothing changed.
        """

        def work(db: sqlite3.Connection) -> Package:
            lease, free = db.execute(
                "SELECT lease, next_number FROM leases ORDER BY lease DESC LIMIT 1"
            ).fetchone()
            made = sign(int(free), self._journal.latest(db))
            db.execute("UPDATE leases SET next_number = next_number + 1 WHERE lease = ?", (lease,))
            self._issue(db, hardware_id, number, made.package, (Kind.MADE, made.details))
            return made.package

        return await self._writer.run(work)

    async def record(self, hardware_id: str, *, number: int, event: UnitEvent) -> None:
        """Move a generation on.

        Raises:
            RefusedError: its life has no such step; nothing changed.
        """

        def work(db: sqlite3.Connection) -> None:
            unit = load_unit(db, hardware_id)
            for one in unit.generations if unit else ():
                if one.number != number:
                    continue
                move(db, hardware_id, one, event, at=self._now())
                if event is UnitEvent.COMMITTED and one.state is UnitState.PROVEN and one.package:
                    self._tell(db, Kind.COMMITTED, {**_told_of(unit), "serial": one.package.serial})

        await self._writer.run(work)

    async def note_attempt(self, attempt: Attempt) -> int:
        """Tell the journal how a visit of a unit ended; return which of its visits it was, from 1."""

        def work(db: sqlite3.Connection) -> int:
            row = db.execute(
                "UPDATE units SET attempts = attempts + 1 WHERE hardware_id = ? RETURNING attempts",
                (attempt.hardware_id,),
            ).fetchone()
            number = 1 if row is None else int(row[0])
            self._tell(db, Kind.ATTEMPT, {**attempt.details, "attempt": str(number)})
            return number

        return await self._writer.run(work)

    async def quarantine(self, hardware_id: str, reason: str) -> None:
        """Doubt a unit until it is released; the first reason stays."""

        def work(db: sqlite3.Connection) -> None:
            row = db.execute(
                "INSERT INTO units (hardware_id, model, doubt, found_at) VALUES (?, '', ?, ?)"
                " ON CONFLICT (hardware_id) DO UPDATE SET doubt = excluded.doubt WHERE doubt IS NULL"
                " RETURNING device_id",
                (hardware_id, reason, self._now()),
            ).fetchone()
            if row is not None:
                details = {"hardware": hardware_id, "device": str(row[0] or ""), "reason": reason}
                self._tell(db, Kind.QUARANTINED, details)

        await self._writer.run(work)

    async def release(self, hardware_id: str, *, by: str, fate: Fate = Fate.USE) -> None:
        """End the quarantine of a unit: `by` looked at it; one that is in none is left alone."""

        def work(db: sqlite3.Connection) -> None:
            row = db.execute(
                "UPDATE units SET doubt = NULL, rework = ? WHERE hardware_id = ? AND doubt IS NOT NULL"
                " RETURNING device_id",
                (fate is Fate.REWORK, hardware_id),
            ).fetchone()
            if row is not None:
                kind = Kind.REWORK if fate is Fate.REWORK else Kind.RELEASED
                self._tell(db, kind, {"hardware": hardware_id, "device": str(row[0] or ""), "by": by})

        await self._writer.run(work)

    async def note(self, kind: Kind, details: Mapping[str, str]) -> None:
        """Tell the journal what is of no unit, such as an operator who begins."""
        await self._writer.run(lambda db: self._tell(db, kind, details))

    async def journal_head(self) -> Head:
        """Return how far the journal has come."""
        return await self._writer.run(self._journal.head)

    async def journal_after(self, number: int, *, most: int) -> tuple[SignedEntry, ...]:
        """Return the journal's entries that follow a number, `most` of them at most."""
        return await self._writer.run(lambda db: self._journal.after(db, number, most=most))

    async def fact(self, name: str) -> bytes | None:
        """Return what is kept under a name, such as the rules that the server gave this station."""

        def work(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
            return None if row is None else bytes(row[0])

        return await self._writer.run(work)

    async def keep_fact(self, name: str, value: bytes) -> None:
        """Keep something under a name, in place of what was there."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO facts (name, value) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

        await self._writer.run(work)

    async def queued(self) -> tuple[tuple[str, str], ...]:
        """Return (hardware id, device id) of units whose newest key waits for its certificate."""
        return await self._writer.run(queued_rows)

    async def unsynced(self) -> tuple[tuple[str, int, str], ...]:
        """Return (hardware id, generation, serial) of all that were committed and not told to the server."""
        return await self._writer.run(unsynced_rows)

    async def finished(self) -> tuple[tuple[str, str, str], ...]:
        """Return (hardware id, device id, serial) of all that were committed, the oldest first."""
        return await self._writer.run(finished_rows)

    async def units(self) -> tuple[Unit, ...]:
        """Return all units, by hardware id."""

        def work(db: sqlite3.Connection) -> tuple[Unit, ...]:
            rows = db.execute("SELECT hardware_id FROM units ORDER BY hardware_id").fetchall()
            found = [load_unit(db, str(row[0])) for row in rows]
            return tuple(unit for unit in found if unit)

        return await self._writer.run(work)

    def _issue(
        self,
        db: sqlite3.Connection,
        hardware_id: str,
        number: int,
        package: Package,
        told: tuple[Kind, Mapping[str, str]],
    ) -> None:
        """Put a package beside its request, end the generations before it, and tell the journal."""
        unit = load_unit(db, hardware_id)
        if unit is None:
            raise RefusedError(f"unit {hardware_id} was never here")
        for one in unit.generations:
            if one.number <= number:
                event = UnitEvent.ISSUED if one.number == number else UnitEvent.REPLACED
                move(db, hardware_id, one, event, at=self._now())
        keep_package(db, hardware_id, number, package)
        db.execute("UPDATE units SET rework = 0 WHERE hardware_id = ?", (hardware_id,))
        key = next(one.key for one in unit.generations if one.number == number)
        kind, details = told
        self._tell(
            db,
            kind,
            {
                **_told_of(unit),
                **details,
                "serial": package.serial,
                "batch": unit.batch,
                "key": key.value,
                "given": given_text(package.hashes),
            },
        )

    def _tell(self, db: sqlite3.Connection, kind: Kind, details: Mapping[str, str]) -> None:
        self._journal.append(db, kind, details, at=self._clock().replace(microsecond=0))

    def _now(self) -> str:
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def _told_of(unit: Unit | None) -> dict[str, str]:
    """Return what the journal tells of a unit in every entry."""
    return {} if unit is None else {"hardware": unit.hardware_id, "device": unit.device_id or ""}
