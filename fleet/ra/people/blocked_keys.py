"""Blocks keys for good: none of them is certified again, over any channel, for any purpose.

What is in force with such a key stays in force: that is for a revocation to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.ca.hierarchy import Authority
from fleet.core.goodkey import key_hash
from fleet.errors import BadInputError, RefusedError
from fleet.model import ADMITTED_STATES, AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.store import audit
from fleet.store.certificates import with_key
from fleet.store.keys import BlockedKey, KeyQuery, block_key, list_blocked

MAX_KEYS = 64
"""In one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBlock:
    """Keys to be blocked, by the hex SHA-256 of their DER SubjectPublicKeyInfo."""

    key_hashes: tuple[str, ...]
    reason: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """What came of it."""

    new: int
    known: int
    """Blocked before; the first reason stays."""
    in_force: tuple[str, ...]
    """Serials of certificates with such a key that are still admitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    block: KeyBlock
    at: datetime


async def block_keys(desk: Context, block: KeyBlock) -> Blocked:
    """Block keys: all of them, or none.

    Raises:
        BadInputError: there are none, or too many.
        RefusedError: one of them signs for this fleet.
    """
    _require_no_authority(desk.authority, block.key_hashes)
    if not 1 <= len(block.key_hashes) <= MAX_KEYS:
        raise BadInputError(f"1 to {MAX_KEYS} keys are blocked at a time", hint="split the list")
    return await desk.store.write(_block, _Act(block=block, at=desk.clock()))


def _require_no_authority(authority: Authority, key_hashes: Sequence[str]) -> None:
    """Refuse to block what goes on signing: a CA is given up in another way, and its devices with it."""
    folders = {record.issuer: record.folder for record in authority.records}
    holders = {key_hash(one.signer.public_key): one.issuer_id for one in authority.admitted}
    for key in key_hashes:
        if key in holders:
            name = folders[holders[key]]
            raise RefusedError(
                f"this is the key of the authority {name}",
                hint=f"fleet ca compromise {name} gives it up, and moves its devices",
            )


async def list_blocked_keys(desk: Desk, query: KeyQuery) -> tuple[BlockedKey, ...]:
    """Return a page of the blocked keys."""
    return await desk.store.read(list_blocked, query)


async def _block(tx: Transaction, act: _Act) -> Blocked:
    new, in_force = 0, list[str]()
    for key in dict.fromkeys(act.block.key_hashes):
        if await block_key(tx, key, reason=act.block.reason, at=act.at, by=act.block.actor):
            new += 1
            await audit.append(tx, _entry(act, key))
        in_force += [row.serial for row in await with_key(tx, key) if row.state in ADMITTED_STATES]
    return Blocked(new=new, known=len(set(act.block.key_hashes)) - new, in_force=tuple(in_force))


def _entry(act: _Act, key: str) -> AuditEntry:
    return AuditEntry(
        at=act.at,
        action="key.blocked",
        actor=act.block.actor,
        details=(("key_hash", key), ("reason", act.block.reason)),
    )
