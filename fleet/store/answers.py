"""Answers to operators' requests that named an idempotency key, so that a repeat acts once.

What an answer says is sealed before it comes here: this module never sees a code or a key.
"""

from dataclasses import dataclass
from datetime import datetime

from fleet.ports import Transaction
from fleet.store import columns, times


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """One request of an operator under one key; `answer` is sealed, None until the act is done."""

    operator: str
    key_hash: str
    request_hash: str
    run: str
    """Which start of the server took the request."""
    asked_at: datetime
    answer: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request that wants its key, and the time before which old answers are forgotten."""

    record: AnswerRecord
    forget_before: datetime


async def claim_key(tx: Transaction, claim: Claim) -> AnswerRecord | None:
    """Take a key for a request; return the record of the one that has it already, else None."""
    record = claim.record
    await tx.execute("DELETE FROM answers WHERE asked_at < ?", (times.text(claim.forget_before),))
    taken = await tx.execute(
        "INSERT INTO answers (operator, key_hash, request_hash, run, asked_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (operator, key_hash) DO NOTHING",
        (record.operator, record.key_hash, record.request_hash, record.run, times.text(record.asked_at)),
    )
    return None if taken else await load_answer(tx, record)


async def load_answer(tx: Transaction, record: AnswerRecord) -> AnswerRecord | None:
    """Return what is kept under the operator and the key of a record."""
    row = await tx.fetch_one(
        "SELECT request_hash, run, asked_at, answer FROM answers WHERE operator = ? AND key_hash = ?",
        (record.operator, record.key_hash),
    )
    if row is None:
        return None
    request_hash, run, asked_at, answer = row
    return AnswerRecord(
        operator=record.operator,
        key_hash=record.key_hash,
        request_hash=columns.text(request_hash),
        run=columns.text(run),
        asked_at=times.moment(asked_at),
        answer=columns.optional_octets(answer),
    )


async def keep_answer(tx: Transaction, record: AnswerRecord) -> None:
    """Keep the answer of a request that has its key."""
    await tx.execute(
        "UPDATE answers SET answer = ? WHERE operator = ? AND key_hash = ? AND request_hash = ?",
        (record.answer, record.operator, record.key_hash, record.request_hash),
    )


async def release_key(tx: Transaction, record: AnswerRecord) -> None:
    """Give a key back: nothing was done under it."""
    await tx.execute(
        "DELETE FROM answers WHERE operator = ? AND key_hash = ? AND answer IS NULL",
        (record.operator, record.key_hash),
    )
