"""What admits a first certificate: one-time codes, kept as hashes, and other grants for one device and key.

A code has 80 random bits, so its plain SHA-256 tells nothing (nobody can try them all).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.core.crockford import plain
from fleet.ports import Row, Transaction
from fleet.store import columns, times

_COLUMNS = "code_id, domain, device_id, kind, source, key_hash, created_at, expires_at, closed_at"


class GrantKind(StrEnum):
    """What a grant stands on."""

    CODE = "code"
    CLAIM = "claim"
    APPROVAL = "approval"
    STATION = "station"
    MANIFEST = "manifest"
    IDEVID = "idevid"
    TPM = "tpm"
    PIV = "piv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the store keeps of a code that is new; `source` is who or what granted it."""

    code_id: str
    kind: GrantKind
    source: str = ""
    code_hash: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRecord:
    """A code, without the code."""

    code_id: str
    identity: Identity
    kind: GrantKind
    source: str
    key_hash: str | None
    created_at: datetime
    expires_at: datetime | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeQuery:
    """Which codes to list, by device; what is empty does not restrict."""

    domain: str = ""
    device_id: str = ""
    after: tuple[str, str, str] = ("", "", "")
    """Domain, device id and code id of the last one of the page before."""
    limit: int = 100


def code_hash(code: Secret) -> str:
    """Return the SHA-256 of a code, hex; case, hyphens, spaces and look-alikes do not count."""
    return hashlib.sha256(b"fleet-code-v1\0" + plain(code.reveal()).encode()).hexdigest()


async def find_code(tx: Transaction, hashed: str) -> CodeRecord | None:
    """Return a code by its hash, open or closed. A look-up by hash leaks no prefix of a code."""
    return _found(await tx.fetch_one(f"SELECT {_COLUMNS} FROM codes WHERE code_hash = ?", (hashed,)))


async def load_code(tx: Transaction, code_id: str) -> CodeRecord | None:
    """Return a code by its id, open or closed."""
    return _found(await tx.fetch_one(f"SELECT {_COLUMNS} FROM codes WHERE code_id = ?", (code_id,)))


async def list_codes(tx: Transaction, query: CodeQuery) -> tuple[CodeRecord, ...]:
    """Return a page of grants, by device."""
    conditions = ["kind IS NOT NULL"]
    values: list[str | int] = []
    for column, value in (("domain", query.domain), ("device_id", query.device_id)):
        if value:
            conditions.append(f"{column} = ?")
            values.append(value)
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM codes WHERE {' AND '.join(conditions)}"
        " AND (domain, device_id, code_id) > (?, ?, ?) ORDER BY domain, device_id, code_id LIMIT ?",
        (*values, *query.after, query.limit),
    )
    return tuple(_record(row) for row in rows)


async def grant_kinds(tx: Transaction, identity: Identity, *, key_hash: str) -> frozenset[GrantKind]:
    """Return what open grants a key of a device has."""
    rows = await tx.fetch_all(
        "SELECT DISTINCT kind FROM codes"
        " WHERE domain = ? AND device_id = ? AND key_hash = ? AND closed_at IS NULL",
        (identity.domain, identity.device_id, key_hash),
    )
    return frozenset(GrantKind(columns.text(kind)) for (kind,) in rows)


async def insert_code(
    tx: Transaction, grant: Grant, *, identity: Identity, key_hash: str | None, at: datetime
) -> None:
    """Add a code; `devices.save_device` does, for codes that the core has granted."""
    await tx.execute(
        f"INSERT INTO codes ({_COLUMNS}, code_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",
        (
            grant.code_id,
            identity.domain,
            identity.device_id,
            grant.kind.value,
            grant.source,
            key_hash,
            times.text(at),
            times.optional_text(grant.expires_at),
            grant.code_hash,
        ),
    )


async def bind_code(tx: Transaction, code_id: str, *, key_hash: str | None) -> None:
    """Note the only key that a code admits from now on."""
    await tx.execute("UPDATE codes SET key_hash = ? WHERE code_id = ?", (key_hash, code_id))


async def close_code(tx: Transaction, code_id: str, *, at: datetime) -> None:
    """Note that a code admits nothing any more."""
    await tx.execute(
        "UPDATE codes SET closed_at = ? WHERE code_id = ? AND closed_at IS NULL", (times.text(at), code_id)
    )


def _found(row: Row | None) -> CodeRecord | None:
    return None if row is None else _record(row)


def _record(row: Sequence[str | float | bytes | None]) -> CodeRecord:
    return CodeRecord(
        code_id=columns.text(row[0]),
        identity=Identity(domain=columns.text(row[1]), device_id=columns.text(row[2])),
        kind=GrantKind(columns.text(row[3])),
        source=columns.text(row[4]),
        key_hash=columns.optional_text(row[5]),
        created_at=times.moment(row[6]),
        expires_at=times.optional_moment(row[7]),
        closed_at=times.optional_moment(row[8]),
    )
