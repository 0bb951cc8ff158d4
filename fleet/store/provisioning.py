"""Certificates that were handed out before their thing is registered, each with its ownership token.

A token is kept as a hash, is taken once, and ends with its hour.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from device_agent.wire.identity import Identity
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.certificates import SignedCertificate

_COLUMNS = (
    "serial, domain, device_id, key_hash, claim_serial, issuer, anchor, profile, state, created_at,"
    " expires_at, fingerprint, not_before, not_after, der"
)


class ProvisionedState(StrEnum):
    """Where a certificate stands that was handed out so."""

    PENDING = "pending"
    REGISTERED = "registered"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """A row of `provisioned`; `signed` is there while it is pending, once it was signed."""

    serial: str
    identity: Identity
    key_hash: str
    claim_serial: str
    issuer: str
    anchor: str
    profile: str
    state: ProvisionedState
    created_at: datetime
    expires_at: datetime
    signed: SignedCertificate | None = None


async def insert_intent(tx: Transaction, intent: Provisioned) -> None:
    """Put on record what is about to be signed."""
    await tx.execute(
        "INSERT INTO provisioned (serial, domain, device_id, key_hash, claim_serial, issuer, anchor, profile,"
        " state, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            intent.serial,
            intent.identity.domain,
            intent.identity.device_id,
            intent.key_hash,
            intent.claim_serial,
            intent.issuer,
            intent.anchor,
            intent.profile,
            intent.state.value,
            times.text(intent.created_at),
            times.text(intent.expires_at),
        ),
    )


async def keep_signed(tx: Transaction, signed: SignedCertificate) -> bool:
    """Complete an intent that still waits; False where it does not any more."""
    changed = await tx.execute(
        "UPDATE provisioned SET fingerprint = ?, not_before = ?, not_after = ?, der = ?"
        " WHERE serial = ? AND state = 'pending'",
        (
            signed.fingerprint,
            times.text(signed.not_before),
            times.text(signed.not_after),
            signed.der,
            signed.serial,
        ),
    )
    return changed == 1


async def give_token(tx: Transaction, serial: str, *, token_hash: str, expires_at: datetime) -> None:
    """Give a certificate a token in place of the one before."""
    await tx.execute(
        "UPDATE provisioned SET token_hash = ?, expires_at = ? WHERE serial = ?",
        (token_hash, times.text(expires_at), serial),
    )


async def find_by_token(tx: Transaction, token_hash: str) -> Provisioned | None:
    """Return what a token is for, whether or not its hour is over."""
    sql = f"SELECT {_COLUMNS} FROM provisioned WHERE token_hash = ?"
    return _found(await tx.fetch_one(sql, (token_hash,)))


async def find_by_key(tx: Transaction, key_hash: str) -> Provisioned | None:
    """Return the newest one of a key."""
    sql = f"SELECT {_COLUMNS} FROM provisioned WHERE key_hash = ? ORDER BY serial DESC LIMIT 1"
    return _found(await tx.fetch_one(sql, (key_hash,)))


async def find_provisioned(tx: Transaction, serial: str) -> Provisioned | None:
    """Return one by its serial number."""
    return _found(await tx.fetch_one(f"SELECT {_COLUMNS} FROM provisioned WHERE serial = ?", (serial,)))


async def count_pending(tx: Transaction, claim_serial: str) -> int:
    """Return how many wait that came by one claim certificate."""
    row = await tx.fetch_one(
        "SELECT COUNT(*) FROM provisioned WHERE claim_serial = ? AND state = 'pending'", (claim_serial,)
    )
    return 0 if row is None else columns.number(row[0])


async def count_all_pending(tx: Transaction, _argument: None) -> int:
    """Return how many wait, by whatever claim they came."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM provisioned WHERE state = 'pending'")
    return 0 if row is None else columns.number(row[0])


async def pending_by_batch(tx: Transaction) -> dict[tuple[str, str], int]:
    """Return how many wait, by domain and batch of the claim that they came by."""
    rows = await tx.fetch_all(
        "SELECT c.domain, c.batch, COUNT(*) FROM provisioned p"
        " JOIN certificates c ON c.serial = p.claim_serial"
        " WHERE p.state = 'pending' AND c.batch IS NOT NULL GROUP BY c.domain, c.batch"
    )
    return {(columns.text(domain), columns.text(name)): columns.number(count) for domain, name, count in rows}


async def end(tx: Transaction, serial: str, state: ProvisionedState) -> None:
    """Note what became of it; its token is worth nothing any more, and its certificate is not kept here."""
    await tx.execute(
        "UPDATE provisioned SET state = ?, token_hash = NULL, der = NULL WHERE serial = ?",
        (state.value, serial),
    )


async def take_token(tx: Transaction, serial: str) -> None:
    """Note that the token was used."""
    await tx.execute("UPDATE provisioned SET token_hash = NULL WHERE serial = ?", (serial,))


async def lapsing(tx: Transaction, now: datetime) -> tuple[Provisioned, ...]:
    """Return some of those whose hour is over, the longest over first."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM provisioned WHERE state = 'pending' AND expires_at <= ?"
        " ORDER BY expires_at, serial LIMIT 100",
        (times.text(now),),
    )
    return tuple(_record(row) for row in rows)


def _found(row: Row | None) -> Provisioned | None:
    return None if row is None else _record(row)


def _record(row: Row) -> Provisioned:
    return Provisioned(
        serial=columns.text(row[0]),
        identity=Identity(domain=columns.text(row[1]), device_id=columns.text(row[2])),
        key_hash=columns.text(row[3]),
        claim_serial=columns.text(row[4]),
        issuer=columns.text(row[5]),
        anchor=columns.text(row[6]),
        profile=columns.text(row[7]),
        state=ProvisionedState(columns.text(row[8])),
        created_at=times.moment(row[9]),
        expires_at=times.moment(row[10]),
        signed=_signed(row),
    )


def _signed(row: Row) -> SignedCertificate | None:
    if row[14] is None:
        return None
    return SignedCertificate(
        serial=columns.text(row[0]),
        issuer=columns.text(row[5]),
        profile=columns.text(row[7]),
        fingerprint=columns.text(row[11]),
        not_before=times.moment(row[12]),
        not_after=times.moment(row[13]),
        der=columns.octets(row[14]),
    )
