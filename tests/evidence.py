"""A small audit trail with its key, every signed head of it, its export, and every proof that it gives."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.ca.signers import make_key, sign_message
from fleet.core.audit import SignedHead
from fleet.model import AuditEntry
from fleet.ports import Store, Transaction
from fleet.ra.people import audits
from fleet.ra.people.proofs import Beginning, prove
from fleet.ra.people.trail import Trail
from fleet.store import audit
from fleet.store.audit import DamagedHead
from fleet.store.seal import AuditSeal, head_line
from fleet.store.sqlite import memory_store
from fleet.web.api.evidence import proof_members

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
SIZE = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Heads by their size; proofs by (number of the entry or None, size of the head that was kept)."""

    key: bytes
    heads: Mapping[int, bytes]
    lines: tuple[str, ...]
    proofs: Mapping[tuple[int | None, int], bytes]

    @property
    def trail(self) -> bytes:
        return "\n".join(self.lines).encode()


def entry(number: int, actor: str) -> AuditEntry:
    details = (("reason", f'"so" \\ ] ü\u2028 {number}'), ("became", "{}")) if number % 2 else ()
    return AuditEntry(at=AT, action="device.registered", actor=actor, domain="prod", details=details)


def trail_in(store: Store, log: str) -> Trail:
    """A trail of which nothing was archived."""
    return Trail(store=store, fleet=log, archive=Path("/nowhere"))


async def signed_heads(store: Store, log: str) -> tuple[SignedHead, ...]:
    async def read(tx: Transaction, _: None) -> tuple[SignedHead | DamagedHead, ...]:
        return await audit.heads_between(tx, log, 1, SIZE)

    return tuple(head for head in await store.read(read, None) if isinstance(head, SignedHead))


async def evidence_of(log: str, actor: str = "operator:ada") -> Evidence:
    key = make_key()
    seal = AuditSeal(log=log, sign=lambda message: sign_message(key, message), clock=lambda: AT)
    async with memory_store(seal=seal) as store:
        for number in range(SIZE):
            await store.write(audit.append, entry(number, actor))
        heads = await signed_heads(store, log)
        proofs = {
            (number, kept.head.size): await proof_of(store, log, number, kept)
            for kept in heads
            for number in (None, *range(SIZE))
        }
        lines = tuple([line async for line in audits.export(trail_in(store, log))])
    return Evidence(
        key=key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        heads={kept.head.size: head_line(kept).encode() for kept in heads},
        lines=lines,
        proofs=proofs,
    )


async def proof_of(store: Store, log: str, number: int | None, kept: SignedHead) -> bytes:
    beginning = Beginning(size=kept.head.size, root=kept.head.root)
    return json.dumps(
        proof_members(await prove(trail_in(store, log), number=number, beginning=beginning))
    ).encode()
