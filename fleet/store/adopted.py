"""Adopted fleets: their authorities, and the leaves of other CAs with the records that stand for them.

The life of such a leaf is a row of `certificates` under a name of ours; here stands what it says of itself.
"""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.serial import is_adopted
from fleet.model import ClientKind
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.certificates import CertificateRecord, load_certificate

_ADOPTION = "name, domain, authorities, crls, crls_until, opened_at, closed_at"
_LEAF = "record, adoption, domain, device_id, issuer, serial, fingerprint, admitted_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A fleet of other authorities; PEM."""

    name: str
    domain: str
    authorities: str
    crls: str
    crls_until: datetime
    opened_at: datetime
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedLeaf:
    """A listed leaf. `admitted_at` is None as long as it has to show itself first."""

    record: str
    adoption: str
    identity: Identity
    issuer: str = ""
    serial: str = ""
    fingerprint: str = ""
    admitted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a connection shows of a certificate: issuer and serial, hex, and the SHA-256 where it is known."""

    issuer: str
    serial: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far an adoption has come."""

    adoption: Adoption
    listed: int
    waiting: int
    """Listed, and not admitted: they have to show themselves over HTTPS first."""
    here: int
    """Still with the certificate of the other CA."""
    moved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafQuery:
    """A page of an adoption's leaves that have not moved, by device."""

    adoption: str
    after: str = ""
    limit: int = 100


async def insert_adoption(tx: Transaction, adoption: Adoption) -> None:
    """Open an adoption that is new."""
    await tx.execute(
        f"INSERT INTO adoptions ({_ADOPTION}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            adoption.name,
            adoption.domain,
            adoption.authorities,
            adoption.crls,
            times.text(adoption.crls_until),
            times.text(adoption.opened_at),
            times.optional_text(adoption.closed_at),
        ),
    )


async def close_adoption(tx: Transaction, name: str, *, at: datetime) -> None:
    """Note that nobody comes in by it any more."""
    await tx.execute(
        "UPDATE adoptions SET closed_at = ? WHERE name = ? AND closed_at IS NULL", (times.text(at), name)
    )


async def save_lists(tx: Transaction, adoption: Adoption) -> None:
    """Keep newer revocation lists of an adoption."""
    await tx.execute(
        "UPDATE adoptions SET crls = ?, crls_until = ? WHERE name = ?",
        (adoption.crls, times.text(adoption.crls_until), adoption.name),
    )


async def load_adoption(tx: Transaction, name: str) -> Adoption | None:
    """Return an adoption by its name."""
    row = await tx.fetch_one(f"SELECT {_ADOPTION} FROM adoptions WHERE name = ?", (name,))
    return None if row is None else _adoption(row)


async def list_adoptions(tx: Transaction, _argument: None) -> tuple[Adoption, ...]:
    """Return all adoptions, closed ones too, by name."""
    return tuple(
        _adoption(row) for row in await tx.fetch_all(f"SELECT {_ADOPTION} FROM adoptions ORDER BY name")
    )


async def standing_of(tx: Transaction, name: str) -> Standing | None:
    """Return how far an adoption has come."""
    adoption = await load_adoption(tx, name)
    if adoption is None:
        return None
    row = await tx.fetch_one(
        "SELECT COUNT(*), SUM(CASE WHEN a.admitted_at IS NULL THEN 1 ELSE 0 END),"
        " SUM(CASE WHEN d.current_serial = a.record THEN 1 ELSE 0 END),"
        " SUM(CASE WHEN a.admitted_at IS NOT NULL AND d.current_serial <> a.record THEN 1 ELSE 0 END)"
        " FROM adopted_leaves a JOIN devices d ON d.domain = a.domain AND d.device_id = a.device_id"
        " WHERE a.adoption = ?",
        (name,),
    )
    counts = [0 if value is None else columns.number(value) for value in row or (0, 0, 0, 0)]
    return Standing(adoption=adoption, listed=counts[0], waiting=counts[1], here=counts[2], moved=counts[3])


async def not_moved(tx: Transaction, query: LeafQuery) -> tuple[AdoptedLeaf, ...]:
    """Return a page of the leaves whose devices have no certificate of ours in use yet."""
    rows = await tx.fetch_all(
        f"SELECT {', '.join(f'a.{one}' for one in _LEAF.split(', '))} FROM adopted_leaves a"
        " JOIN devices d ON d.domain = a.domain AND d.device_id = a.device_id"
        " WHERE a.adoption = ? AND a.device_id > ?"
        " AND (a.admitted_at IS NULL OR d.current_serial = a.record)"
        " ORDER BY a.device_id LIMIT ?",
        (query.adoption, query.after, query.limit),
    )
    return tuple(_leaf(row) for row in rows)


async def moving(tx: Transaction, name: str) -> frozenset[Identity]:
    """Return the devices of an adoption that have got a certificate of ours and not used it yet."""
    rows = await tx.fetch_all(
        "SELECT DISTINCT a.domain, a.device_id FROM adopted_leaves a JOIN certificates c"
        " ON c.domain = a.domain AND c.device_id = a.device_id AND c.purpose = 'device'"
        " WHERE a.adoption = ? AND c.state = 'issued' AND c.serial <> a.record",
        (name,),
    )
    return frozenset(
        Identity(domain=columns.text(domain), device_id=columns.text(device_id)) for domain, device_id in rows
    )


async def put_leaf(tx: Transaction, leaf: AdoptedLeaf) -> None:
    """List a leaf, or complete one that is listed."""
    await tx.execute(
        f"INSERT INTO adopted_leaves ({_LEAF}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (record) DO UPDATE SET issuer = excluded.issuer, serial = excluded.serial,"
        " fingerprint = excluded.fingerprint, admitted_at = excluded.admitted_at",
        (
            leaf.record,
            leaf.adoption,
            leaf.identity.domain,
            leaf.identity.device_id,
            leaf.issuer,
            leaf.serial,
            leaf.fingerprint,
            times.optional_text(leaf.admitted_at),
        ),
    )


async def leaves_of_device(tx: Transaction, identity: Identity) -> tuple[AdoptedLeaf, ...]:
    """Return the leaves that are listed for a device."""
    rows = await tx.fetch_all(
        f"SELECT {_LEAF} FROM adopted_leaves WHERE domain = ? AND device_id = ? ORDER BY record",
        (identity.domain, identity.device_id),
    )
    return tuple(_leaf(row) for row in rows)


async def waiting_for(tx: Transaction, shown: Shown) -> tuple[AdoptedLeaf, ...]:
    """Return the leaves of open adoptions that a certificate could be, and that never showed themselves."""
    rows = await tx.fetch_all(
        f"SELECT {', '.join(f'a.{one}' for one in _LEAF.split(', '))} FROM adopted_leaves a"
        " JOIN adoptions o ON o.name = a.adoption AND o.closed_at IS NULL"
        " WHERE a.admitted_at IS NULL AND (a.serial = ? OR a.fingerprint = ?) ORDER BY a.record",
        (shown.serial, shown.fingerprint),
    )
    return tuple(_leaf(row) for row in rows)


async def load_shown(tx: Transaction, shown: Shown) -> CertificateRecord | None:
    """Return the record of a certificate by what it says of itself, be it ours or an adopted one."""
    own = await load_certificate(tx, shown.serial)
    if own is not None and own.issuer == shown.issuer:
        return own
    row = await tx.fetch_one(
        "SELECT record FROM adopted_leaves WHERE serial = ? AND issuer = ? AND admitted_at IS NOT NULL",
        (shown.serial, shown.issuer),
    )
    return None if row is None else await load_certificate(tx, columns.text(row[0]))


async def record_at(tx: Transaction, shown: tuple[Identity, str]) -> str:
    """Return the name of the record behind a device's topic: the serial itself, but for adopted leaves."""
    identity, serial = shown
    row = await tx.fetch_one(
        "SELECT record FROM adopted_leaves"
        " WHERE domain = ? AND device_id = ? AND serial = ? AND admitted_at IS NOT NULL",
        (identity.domain, identity.device_id, serial),
    )
    return serial if row is None else columns.text(row[0])


async def shown_serials(tx: Transaction, records: frozenset[str]) -> frozenset[str]:
    """Return the serial numbers that brokers see: the name of the record, and of adopted leaves their own."""
    rows = [
        await tx.fetch_one("SELECT serial FROM adopted_leaves WHERE record = ?", (record,))
        for record in sorted(records)
        if is_adopted(record)
    ]
    shown = {columns.text(row[0]) for row in rows if row is not None}
    return frozenset({record for record in records if not is_adopted(record)} | shown)


async def make_current(tx: Transaction, identity: Identity, record: str) -> None:
    """Make an adopted leaf the certificate that its device uses."""
    await tx.execute(
        "UPDATE devices SET current_serial = ? WHERE domain = ? AND device_id = ?",
        (record, identity.domain, identity.device_id),
    )


async def take_part(tx: Transaction, part: tuple[Identity, ClientKind]) -> None:
    """Note how a device takes part, as its first renewal shows."""
    identity, kind = part
    await tx.execute(
        "UPDATE devices SET kind = ? WHERE domain = ? AND device_id = ?",
        (kind.value, identity.domain, identity.device_id),
    )


def _adoption(row: Row) -> Adoption:
    return Adoption(
        name=columns.text(row[0]),
        domain=columns.text(row[1]),
        authorities=columns.text(row[2]),
        crls=columns.text(row[3]),
        crls_until=times.moment(row[4]),
        opened_at=times.moment(row[5]),
        closed_at=times.optional_moment(row[6]),
    )


def _leaf(row: Row) -> AdoptedLeaf:
    return AdoptedLeaf(
        record=columns.text(row[0]),
        adoption=columns.text(row[1]),
        identity=Identity(domain=columns.text(row[2]), device_id=columns.text(row[3])),
        issuer=columns.text(row[4]),
        serial=columns.text(row[5]),
        fingerprint=columns.text(row[6]),
        admitted_at=times.optional_moment(row[7]),
    )
