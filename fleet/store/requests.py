"""What was asked of us, and what became of it, so that changed profiles can be tried on it.

Compact and secret-free; the newest of each outcome are kept, so that refusals never crowd out the rest.
"""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.recorded import facts_text, read_facts
from fleet.core.ruling import Facts, Outcome
from fleet.ports import Row, Transaction
from fleet.store import columns, times

KEPT = 10_000
"""Requests of each outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request; `facts` is None where something else than the profiles decided."""

    at: datetime
    outcome: Outcome
    domain: str = ""
    device_id: str = ""
    code: str = ""
    reason: str = ""
    facts: Facts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQuery:
    """A page of requests, the newest first; `before` is the number that the page before ended at."""

    before: int | None = None
    limit: int = 1000


async def keep_request(tx: Transaction, record: RequestRecord) -> None:
    """Add a request to the record; one that waits asks again and again, and stands there once."""
    facts = None if record.facts is None else facts_text(record.facts)
    if record.outcome is Outcome.WAITS:
        await tx.execute(
            "DELETE FROM requests WHERE domain = ? AND device_id = ? AND outcome = ?",
            (record.domain, record.device_id, record.outcome.value),
        )
    await tx.execute(
        "INSERT INTO requests (number, at, domain, device_id, outcome, code, reason, facts)"
        " SELECT COALESCE(MAX(number), 0) + 1, ?, ?, ?, ?, ?, ?, ? FROM requests",
        (
            times.text(record.at),
            record.domain,
            record.device_id,
            record.outcome.value,
            record.code,
            record.reason,
            facts,
        ),
    )


async def list_requests(tx: Transaction, query: RequestQuery) -> tuple[tuple[int, RequestRecord], ...]:
    """Return a page of the record, each with its number."""
    rows = await tx.fetch_all(
        "SELECT number, at, domain, device_id, outcome, code, reason, facts FROM requests"
        " WHERE number < ? ORDER BY number DESC LIMIT ?",
        (2**62 if query.before is None else query.before, query.limit),
    )
    return tuple((columns.number(row[0]), _record(row)) for row in rows)


async def surplus(tx: Transaction, kept: int) -> tuple[tuple[Outcome, int], ...]:
    """Return, for each outcome that has more than are kept, the number of the newest that goes."""
    found = []
    for outcome in Outcome:
        row = await tx.fetch_one(
            "SELECT number FROM requests WHERE outcome = ? ORDER BY number DESC LIMIT 1 OFFSET ?",
            (outcome.value, kept),
        )
        if row is not None:
            found.append((outcome, columns.number(row[0])))
    return tuple(found)


async def drop_requests(tx: Transaction, surplus: tuple[tuple[Outcome, int], ...]) -> None:
    """Forget the oldest of each outcome, up to a number."""
    for outcome, number in surplus:
        await tx.execute("DELETE FROM requests WHERE outcome = ? AND number <= ?", (outcome.value, number))


def _record(row: Row) -> RequestRecord:
    facts = columns.optional_text(row[7])
    return RequestRecord(
        at=times.moment(row[1]),
        domain=columns.text(row[2]),
        device_id=columns.text(row[3]),
        outcome=Outcome(columns.text(row[4])),
        code=columns.text(row[5]),
        reason=columns.text(row[6]),
        facts=None if facts is None else read_facts(facts),
    )
