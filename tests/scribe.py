"""Writes the journal of a station that is not there, as it should be or otherwise, and hands it in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.core.journal import Entry, Head, Kind, SignedEntry, after, signed_text
from fleet.core.station_sync import JournalReceipt, JournalUpload
from fleet.ra.context import Asker, Listener
from fleet.ra.people.stations import add_station
from fleet.ra.requests.journal_sync import sync_journal
from tests.desk import NOON, Desk, Unit, station_order


@dataclass(kw_only=True)
class Scribe:
    """Writes a station's journal, and whatever else it is told to."""

    unit: Unit
    serial: str
    station: str = "line3"
    head: Head = field(default_factory=Head)
    at: datetime = NOON

    def write(self, kind: Kind, details: Mapping[str, str] | None = None) -> SignedEntry:
        entry = Entry(
            station=self.station,
            number=self.head.number + 1,
            at=self.at,
            kind=kind,
            previous=self.head.digest,
            signer=self.serial,
            details=details or {},
        )
        self.head = after(self.head, entry.encode())
        return self.sign(entry.encode())

    def sign(self, octets: bytes) -> SignedEntry:
        signature = self.unit.key.sign(signed_text(octets), ec.ECDSA(hashes.SHA256()))
        return SignedEntry(octets=octets, signature=signature)

    def some(self, count: int = 5) -> list[SignedEntry]:
        kinds = [Kind.OPENED] + [Kind.ATTEMPT] * (count - 1)
        return [self.write(kind, {"hardware": f"hw-{number}"}) for number, kind in enumerate(kinds)]


async def scribe_of(desk: Desk, name: str = "line3") -> Scribe:
    unit = Unit(device_id=name)
    new = await add_station(desk.context, station_order(name, "spring", csr=unit.csr))
    return Scribe(unit=unit, serial=new.own.issued.serial, station=name)


async def sync(desk: Desk, entries: list[SignedEntry], *, station: str = "line3") -> JournalReceipt:
    asker = Asker(listener=Listener.ADMIN, station=station)
    upload = JournalUpload(now=desk.clock(), entries=tuple(entries))
    return (await sync_journal(desk.context, asker, upload)).receipt
