"""A bounded sample of what brokers allowed and denied, to try a changed policy on; the oldest fall out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fleet.grants import Action, TopicDecision
from fleet.ports import Row, Transaction
from fleet.store import columns, times

MOST = 50_000
"""That are kept, of all devices."""
MOST_OF_ONE = 200
"""That are kept of one name: whoever tries many topics drives out its own alone."""
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Decisions, each with how often it was told, and when."""

    counts: Mapping[TopicDecision, int]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDecision:
    """A decision on record; `times` counts connections on which it was told, not messages."""

    decision: TopicDecision
    times: int
    first_at: datetime
    last_at: datetime


async def note_decisions(tx: Transaction, sighting: Sighting) -> None:
    """Count decisions, and forget the oldest above the bounds."""
    at = times.text(sighting.at)
    rows: list[Row] = [
        (each.name, each.action.value, each.topic, int(each.allowed), count, at, at)
        for each, count in sighting.counts.items()
    ]
    await tx.execute_many(
        "INSERT INTO topic_decisions (name, action, topic, allowed, times, first_at, last_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name, action, topic, allowed) DO UPDATE SET"
        " times = topic_decisions.times + excluded.times, last_at = excluded.last_at",
        rows,
    )
    for name in {each.name for each in sighting.counts}:
        await _forget(tx, "WHERE name = ?", (name,), kept=MOST_OF_ONE)
    await _forget(tx, "", (), kept=MOST)


async def decisions_after(tx: Transaction, after: tuple[str, str, str, int]) -> tuple[KeptDecision, ...]:
    """Return a page of what is kept, in the order of its key, after a key; the empty one begins."""
    rows = await tx.fetch_all(
        "SELECT name, action, topic, allowed, times, first_at, last_at FROM topic_decisions"
        " WHERE (name, action, topic, allowed) > (?, ?, ?, ?)"
        " ORDER BY name, action, topic, allowed LIMIT ?",
        (*after, _PAGE),
    )
    return tuple(_kept(row) for row in rows)


async def _forget(tx: Transaction, where: str, parameters: tuple[str, ...], *, kept: int) -> None:
    key = "(name, action, topic, allowed)"
    await tx.execute(
        f"DELETE FROM topic_decisions WHERE {key} IN (SELECT name, action, topic, allowed"
        f" FROM topic_decisions {where} ORDER BY last_at DESC, name, action, topic, allowed"
        " LIMIT 1000 OFFSET ?)",
        (*parameters, kept),
    )


def _kept(row: Row) -> KeptDecision:
    name, action, topic, allowed, count, first_at, last_at = row
    decision = TopicDecision(
        name=columns.text(name),
        action=Action(columns.text(action)),
        topic=columns.text(topic),
        allowed=columns.flag(allowed),
    )
    return KeptDecision(
        decision=decision,
        times=columns.number(count),
        first_at=times.moment(first_at),
        last_at=times.moment(last_at),
    )
