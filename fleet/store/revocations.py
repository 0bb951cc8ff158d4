"""What was taken back or is on hold: entries of revocation lists, encoded once, and the times of holds.

What lists are made of is read in `crl_entries`.
"""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.partition import shard_of
from fleet.core.revocation import encode_entry
from fleet.model import CertificateState, RevocationReason
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.counters import count_up, value_of

# A broker's list holds what was revoked for cause only; an end by renewal or time-out stands on the
# public one, so that relying parties see it, and the broker's guard refuses it by the allowlist.
_REASONS: dict[CertificateState, RevocationReason] = {
    CertificateState.SUPERSEDED: RevocationReason.SUPERSEDED,
    CertificateState.SUPERSEDED_ACKED: RevocationReason.SUPERSEDED,
    CertificateState.DEAD: RevocationReason.CESSATION_OF_OPERATION,
    CertificateState.VOID: RevocationReason.CESSATION_OF_OPERATION,
}

_CHANGES = "revocations"

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
    """What a row of `revocations` says: revoked, or on hold, since `revoked_at`."""

    serial: str
    revoked_at: datetime
    reason: RevocationReason
    for_cause: bool

    @property
    def is_hold(self) -> bool:
        """It is on hold: it may be good again."""
        return self.reason is RevocationReason.CERTIFICATE_HOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A row of `holds`: a certificate was held from `held_at`, and until `ended_at` if that has come.

    `released` tells whether it was good again then; if not, it was taken back for good.
    """

    serial: str
    held_at: datetime
    ended_at: datetime | None
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCrl:
    """The newest list of a root, DER: it was made when the key was at hand."""

    issuer: str
    number: int
    this_update: datetime
    next_update: datetime
    der: bytes


async def record(tx: Transaction, ending: Ending) -> None:
    """Put an ended certificate on the list, or give it a graver reason; its first date stays."""
    known = await revocation_of(tx, ending.serial)
    if known is not None and known.is_hold:
        await tx.execute(
            "UPDATE holds SET ended_at = ? WHERE serial = ? AND ended_at IS NULL",
            (times.text(ending.at), ending.serial),
        )
    for_cause = ending.state is CertificateState.REVOKED
    reason = (
        ending.reason or RevocationReason.UNSPECIFIED
        if for_cause
        else _REASONS.get(ending.state, RevocationReason.UNSPECIFIED)
    )
    revocation = Revocation(
        serial=ending.serial,
        revoked_at=ending.at if known is None else known.revoked_at,
        reason=reason,
        for_cause=for_cause,
    )
    await _put(tx, revocation, issuer=ending.issuer, not_after=ending.not_after)


async def hold(tx: Transaction, serial: str, *, at: datetime) -> bool:
    """Put a certificate on hold, unless it is on the list already; one that nobody signed is on none.

    Return whether it is held by this.
    """
    row = await tx.fetch_one(
        "SELECT issuer, not_after FROM certificates WHERE serial = ? AND fingerprint IS NOT NULL", (serial,)
    )
    if row is None or await revocation_of(tx, serial) is not None:
        return False
    issuer = columns.text(row[0])
    revocation = Revocation(
        serial=serial, revoked_at=at, reason=RevocationReason.CERTIFICATE_HOLD, for_cause=False
    )
    await _put(tx, revocation, issuer=issuer, not_after=times.optional_moment(row[1]))
    await tx.execute(
        "INSERT INTO holds (issuer, serial, held_at) VALUES (?, ?, ?)"
        " ON CONFLICT (issuer, serial, held_at) DO UPDATE SET ended_at = NULL, released = 0",
        (issuer, serial, times.text(at)),
    )
    return True


async def release(tx: Transaction, serial: str, *, at: datetime) -> None:
    """End a hold: the certificate is good again. What was taken back stays so."""
    known = await revocation_of(tx, serial)
    if known is None or not known.is_hold:
        return
    row = await tx.fetch_one("SELECT issuer FROM certificates WHERE serial = ?", (serial,))
    issuer = "" if row is None else columns.text(row[0])
    await tx.execute("DELETE FROM revocations WHERE issuer = ? AND serial = ?", (issuer, serial))
    await tx.execute(
        "UPDATE holds SET ended_at = ?, released = 1, since = ? WHERE serial = ? AND ended_at IS NULL",
        (times.text(at), await _newest_number(tx, issuer), serial),
    )
    await count_up(tx, _CHANGES)


async def revocation_of(tx: Transaction, serial: str) -> Revocation | None:
    """Return what a certificate is on the list for now, or None."""
    row = await tx.fetch_one(
        "SELECT r.serial, r.revoked_at, r.reason, r.for_cause FROM revocations r"
        " JOIN certificates c ON c.serial = r.serial AND c.issuer = r.issuer WHERE c.serial = ?",
        (serial,),
    )
    return None if row is None else _revocation(row)


async def changes(tx: Transaction, _argument: None) -> int:
    """Return how often anything that a list names has changed."""
    return await value_of(tx, _CHANGES)


async def holds_of(tx: Transaction, serial: str) -> tuple[Hold, ...]:
    """Return each time that a certificate was on hold, the first one first."""
    rows = await tx.fetch_all(
        "SELECT serial, held_at, ended_at, released FROM holds WHERE serial = ? ORDER BY held_at", (serial,)
    )
    return tuple(
        Hold(
            serial=columns.text(row[0]),
            held_at=times.moment(row[1]),
            ended_at=times.optional_moment(row[2]),
            released=columns.flag(row[3]),
        )
        for row in rows
    )


async def _put(tx: Transaction, revocation: Revocation, *, issuer: str, not_after: datetime | None) -> None:
    entry = encode_entry(revocation.serial, revocation.revoked_at, revocation.reason)
    await tx.execute(
        "INSERT INTO revocations"
        " (issuer, serial, revoked_at, reason, for_cause, not_after, entry, shard, since)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (issuer, serial) DO UPDATE SET"
        " reason = excluded.reason, for_cause = excluded.for_cause, entry = excluded.entry,"
        " since = excluded.since",
        (
            issuer,
            revocation.serial,
            times.text(revocation.revoked_at),
            revocation.reason.value,
            int(revocation.for_cause),
            times.optional_text(not_after),
            entry,
            shard_of(revocation.serial),
            await _newest_number(tx, issuer),
        ),
    )
    await count_up(tx, _CHANGES)


async def next_crl_number(tx: Transaction, issuer: str, *, floor: int = 0) -> int:
    """Take the next number of an issuer's lists, above `floor` (RFC 5280 5.2.3); it grows with every call."""
    return await count_up(tx, _counter(issuer), floor=floor)


async def _newest_number(tx: Transaction, issuer: str) -> int:
    return await value_of(tx, _counter(issuer))


def _counter(issuer: str) -> str:
    return f"crl:{issuer}"


async def save_crl(tx: Transaction, crl: StoredCrl) -> None:
    """Keep the newest list of a root."""
    await tx.execute(
        "INSERT INTO root_crls (issuer, number, this_update, next_update, der) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, this_update = excluded.this_update,"
        " next_update = excluded.next_update, der = excluded.der WHERE excluded.number > root_crls.number",
        (crl.issuer, crl.number, times.text(crl.this_update), times.text(crl.next_update), crl.der),
    )


async def load_crl(tx: Transaction, issuer: str) -> StoredCrl | None:
    """Return the newest list of a root, or None."""
    row = await tx.fetch_one(
        "SELECT number, this_update, next_update, der FROM root_crls WHERE issuer = ?", (issuer,)
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
    serial, revoked_at, reason, for_cause = row
    return Revocation(
        serial=columns.text(serial),
        revoked_at=times.moment(revoked_at),
        reason=RevocationReason(columns.text(reason)),
        for_cause=columns.flag(for_cause),
    )
