"""What stations may sign off line: the roots above their CAs, the leases, and the numbers that were used."""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = (
    "lease, station, domain, batch, first, count, issued_at, not_after, issuer, root, anchor,"
    " certificate, crl, closed_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRootRecord:
    """The root above the CAs of a domain's stations; `certificate` is DER."""

    issuer: str
    domain: str
    certificate: bytes
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """A lease as it was granted."""

    lease: str
    station: str
    domain: str
    batch: str
    first: int
    count: int
    issued_at: datetime
    not_after: datetime
    issuer: str
    """The station's CA by its hex subject key identifier."""
    root: str
    """The root above it, likewise."""
    anchor: str
    """Hex SHA-256 of that root's DER."""
    certificate: bytes
    """Of the station's CA, DER."""
    crl: bytes | None = None
    """What the station signed with it: brokers want a list of every CA. None until its journal came."""
    closed_at: datetime | None = None

    def has(self, number: int) -> bool:
        """Tell whether a number is one of the lease's."""
        return self.first <= number < self.first + self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseUse:
    """A number of a lease, and the certificate that it was used for."""

    lease: str
    number: int
    serial: str


async def insert_root(tx: Transaction, root: StationRootRecord) -> None:
    """Add a root."""
    await tx.execute(
        "INSERT INTO station_roots (issuer, domain, certificate, made_at) VALUES (?, ?, ?, ?)",
        (root.issuer, root.domain, root.certificate, times.text(root.made_at)),
    )


async def list_roots(tx: Transaction, domain: str) -> tuple[StationRootRecord, ...]:
    """Return the roots of a domain, or of all, if it is empty; the newest first."""
    rows = await tx.fetch_all(
        "SELECT issuer, domain, certificate, made_at FROM station_roots WHERE ? IN ('', domain)"
        " ORDER BY made_at DESC, issuer",
        (domain,),
    )
    return tuple(
        StationRootRecord(
            issuer=columns.text(row[0]),
            domain=columns.text(row[1]),
            certificate=columns.octets(row[2]),
            made_at=times.moment(row[3]),
        )
        for row in rows
    )


async def insert_lease(tx: Transaction, lease: LeaseRecord) -> None:
    """Add a lease."""
    marks = ", ".join("?" * 14)
    await tx.execute(
        f"INSERT INTO station_leases ({_COLUMNS}) VALUES ({marks})",
        (
            *(lease.lease, lease.station, lease.domain, lease.batch, lease.first, lease.count),
            *(times.text(lease.issued_at), times.text(lease.not_after), lease.issuer, lease.root),
            *(lease.anchor, lease.certificate, lease.crl, times.optional_text(lease.closed_at)),
        ),
    )


async def load_lease(tx: Transaction, lease: str) -> LeaseRecord | None:
    """Return a lease by its name."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM station_leases WHERE lease = ?", (lease,))
    return None if row is None else _lease(row)


async def list_leases(tx: Transaction, station: str) -> tuple[LeaseRecord, ...]:
    """Return the leases of a station, or of all, if it is empty, by name: the oldest first."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM station_leases WHERE ? IN ('', station) ORDER BY lease", (station,)
    )
    return tuple(_lease(row) for row in rows)


async def next_first(tx: Transaction, station: str) -> int:
    """Return the first number that no lease of a station has."""
    row = await tx.fetch_one("SELECT MAX(first + count) FROM station_leases WHERE station = ?", (station,))
    return 1 if row is None or row[0] is None else columns.number(row[0])


async def is_in_force(tx: Transaction, issuer: str) -> bool:
    """Tell whether a station's CA may have signed: its lease was granted, and not closed."""
    row = await tx.fetch_one("SELECT 1 FROM station_leases WHERE issuer = ? AND closed_at IS NULL", (issuer,))
    return row is not None


async def has_issuer(tx: Transaction, issuer: str) -> bool:
    """Tell whether a station's CA has, or had, this key identifier, which is unique among them."""
    return await tx.fetch_one("SELECT 1 FROM station_leases WHERE issuer = ?", (issuer,)) is not None


async def keep_crl(tx: Transaction, lease: str, crl: bytes) -> None:
    """Keep the list that a station signed with its CA; the first one stays."""
    await tx.execute("UPDATE station_leases SET crl = ? WHERE lease = ? AND crl IS NULL", (crl, lease))


async def close_lease(tx: Transaction, lease: str, *, at: datetime) -> None:
    """Close a lease for good: nothing that comes later under it is admitted."""
    await tx.execute(
        "UPDATE station_leases SET closed_at = ? WHERE lease = ? AND closed_at IS NULL",
        (times.text(at), lease),
    )


async def close_leases_of(tx: Transaction, station: str, *, at: datetime) -> None:
    """Close all leases of a station, which is closed itself."""
    await tx.execute(
        "UPDATE station_leases SET closed_at = ? WHERE station = ? AND closed_at IS NULL",
        (times.text(at), station),
    )


async def use_number(tx: Transaction, use: LeaseUse) -> str:
    """Note the use of a number; return the serial that it is used for, which may be another one's."""
    await tx.execute(
        "INSERT INTO station_lease_uses (lease, number, serial) VALUES (?, ?, ?)"
        " ON CONFLICT (lease, number) DO NOTHING",
        (use.lease, use.number, use.serial),
    )
    row = await tx.fetch_one(
        "SELECT serial FROM station_lease_uses WHERE lease = ? AND number = ?", (use.lease, use.number)
    )
    return "" if row is None else columns.text(row[0])


async def count_used(tx: Transaction, lease: str) -> int:
    """Return how many numbers of a lease were used, as far as journals came."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM station_lease_uses WHERE lease = ?", (lease,))
    return 0 if row is None else columns.number(row[0])


def _lease(row: Row) -> LeaseRecord:
    lease, station, domain, batch, first, count, issued_at, not_after, *authority, closed_at = row
    issuer, root, anchor, certificate, crl = authority
    return LeaseRecord(
        lease=columns.text(lease),
        station=columns.text(station),
        domain=columns.text(domain),
        batch=columns.text(batch),
        first=columns.number(first),
        count=columns.number(count),
        issued_at=times.moment(issued_at),
        not_after=times.moment(not_after),
        issuer=columns.text(issuer),
        root=columns.text(root),
        anchor=columns.text(anchor),
        certificate=columns.octets(certificate),
        crl=columns.optional_octets(crl),
        closed_at=times.optional_moment(closed_at),
    )
