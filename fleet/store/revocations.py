"""What was taken back: entries of revocation lists, encoded once, and the lists made of them."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.revocation import encode_entry
from fleet.model import CertificateState, RevocationReason
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.counters import count_up

# A broker's list holds what was revoked for cause only; an end by renewal or time-out stands on the
# public one, so that relying parties see it, and the broker's guard refuses it by the allowlist.
_REASONS: dict[CertificateState, RevocationReason] = {
    CertificateState.SUPERSEDED: RevocationReason.SUPERSEDED,
    CertificateState.SUPERSEDED_ACKED: RevocationReason.SUPERSEDED,
    CertificateState.DEAD: RevocationReason.CESSATION_OF_OPERATION,
    CertificateState.VOID: RevocationReason.CESSATION_OF_OPERATION,
}

ENDED_STATES = frozenset({*_REASONS, CertificateState.REVOKED}) - {CertificateState.VOID}
"""States that put a serial on the list; a void one follows once nobody can be signing it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a certificate, to be recorded."""

    issuer: str
    serial: str
    state: CertificateState
    reason: RevocationReason | None
    """Counts for revoked ones only."""
    not_after: datetime | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A row of `revocations`; `entry` is DER."""

    serial: str
    revoked_at: datetime
    reason: RevocationReason
    for_cause: bool
    entry: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlQuery:
    """Whose revocations, as of when: entries of certificates that ended before `now` are left out."""

    issuer: str
    now: datetime
    for_cause_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCrl:
    """The newest list of an issuing CA, DER."""

    issuer: str
    number: int
    this_update: datetime
    next_update: datetime
    der: bytes


async def record(tx: Transaction, ending: Ending) -> None:
    """Put an ended certificate on the list, or give it a graver reason; its first date stays."""
    known = await revocation_of(tx, ending.serial)
    revoked_at = ending.at if known is None else known.revoked_at
    for_cause = ending.state is CertificateState.REVOKED
    reason = (
        ending.reason or RevocationReason.UNSPECIFIED
        if for_cause
        else _REASONS.get(ending.state, RevocationReason.UNSPECIFIED)
    )
    await tx.execute(
        "INSERT INTO revocations (issuer, serial, revoked_at, reason, for_cause, not_after, entry)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (issuer, serial) DO UPDATE SET"
        " reason = excluded.reason, for_cause = excluded.for_cause, entry = excluded.entry",
        (
            ending.issuer,
            ending.serial,
            times.text(revoked_at),
            reason.value,
            int(for_cause),
            times.optional_text(ending.not_after),
            encode_entry(ending.serial, revoked_at, reason),
        ),
    )


async def revocation_of(tx: Transaction, serial: str) -> Revocation | None:
    """Return the revocation of a certificate, or None."""
    row = await tx.fetch_one(
        "SELECT r.serial, r.revoked_at, r.reason, r.for_cause, r.entry FROM revocations r"
        " JOIN certificates c ON c.serial = r.serial AND c.issuer = r.issuer WHERE c.serial = ?",
        (serial,),
    )
    return None if row is None else _revocation(row)


async def list_revocations(tx: Transaction, query: CrlQuery) -> tuple[Revocation, ...]:
    """Return the entries of an issuer's list, in the order of their serials."""
    rows = await tx.fetch_all(
        "SELECT serial, revoked_at, reason, for_cause, entry FROM revocations"
        " WHERE issuer = ? AND for_cause >= ? AND (not_after IS NULL OR not_after >= ?) ORDER BY serial",
        (query.issuer, int(query.for_cause_only), times.text(query.now)),
    )
    return tuple(_revocation(row) for row in rows)


async def next_crl_number(tx: Transaction, issuer: str) -> int:
    """Take the next number of an issuer's lists (RFC 5280 5.2.3); it grows with every call."""
    return await count_up(tx, f"crl:{issuer}")


async def save_crl(tx: Transaction, crl: StoredCrl) -> None:
    """Keep the newest list of an issuer."""
    await tx.execute(
        "INSERT INTO crls (issuer, number, this_update, next_update, der) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, this_update = excluded.this_update,"
        " next_update = excluded.next_update, der = excluded.der WHERE excluded.number > crls.number",
        (crl.issuer, crl.number, times.text(crl.this_update), times.text(crl.next_update), crl.der),
    )


async def load_crl(tx: Transaction, issuer: str) -> StoredCrl | None:
    """Return the newest list of an issuer, or None."""
    row = await tx.fetch_one(
        "SELECT number, this_update, next_update, der FROM crls WHERE issuer = ?", (issuer,)
    )
    if row is None:
        return None
    return StoredCrl(
        issuer=issuer,
        number=columns.number(row[0]),
        this_update=times.moment(row[1]),
        next_update=times.moment(row[2]),
        der=columns.octets(row[3]),
    )


def _revocation(row: Row) -> Revocation:
    serial, revoked_at, reason, for_cause, entry = row
    return Revocation(
        serial=columns.text(serial),
        revoked_at=times.moment(revoked_at),
        reason=RevocationReason(columns.text(reason)),
        for_cause=columns.flag(for_cause),
        entry=columns.octets(entry),
    )
