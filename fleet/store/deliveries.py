"""The outbox: notifications as operators see them, and each one's way to its receivers.

A delivery is `sending` on record before anything is sent, and `sent` or `waiting` after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from fleet.core.delivery import DeliveryEvent, DeliveryState, after
from fleet.core.matters import Matter, Severity
from fleet.core.notification_rule import Receiver
from fleet.model import AuditEntry
from fleet.ports import Row, Transaction, Value
from fleet.store import audit, columns, times

_NOTIFICATION = "n.number, n.id, n.rule, n.matter, n.audience, n.severity, n.items, n.made_at, n.stage"
_ACK = "n.acked_at, n.acked_by, n.reason"
_DELIVERY = "notification, channel, address, stage, state, attempts, made_at, next_at, changed_at, answer"
_LONGEST_ANSWER = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationRow:
    """A row of `notifications`."""

    number: int
    id: str
    rule: str
    matter: Matter
    audience: str
    severity: Severity
    items: int
    made_at: datetime
    stage: int
    acked_at: datetime | None
    acked_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A row of `notification_deliveries`."""

    notification: int
    receiver: Receiver
    stage: int
    state: DeliveryState
    attempts: int
    made_at: datetime
    next_at: datetime
    changed_at: datetime
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationQuery:
    """Which notifications to list, the newest first; what is empty or None does not restrict."""

    rule: str = ""
    matter: Matter | None = None
    severity: Severity = Severity.INFO
    """That or more."""
    state: DeliveryState | None = None
    """With a delivery that stands so."""
    is_acked: bool | None = None
    before: int | None = None
    """Only lower numbers: the last one of the page before."""
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DueQuery:
    """Deliveries on one channel that are to be tried now."""

    channel: str
    now: datetime
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened to a delivery. `entry` is told on the audit trail if it is given up by this."""

    delivery: Delivery
    event: DeliveryEvent
    at: datetime
    next_at: datetime
    answer: str = ""
    entry: AuditEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """That somebody has seen a notification."""

    number: int
    actor: str
    reason: str
    at: datetime


async def list_notifications(tx: Transaction, query: NotificationQuery) -> tuple[NotificationRow, ...]:
    """Return a page of notifications, the newest first."""
    conditions, values = _conditions(query)
    rows = await tx.fetch_all(
        f"SELECT {_NOTIFICATION}, {_ACK} FROM notifications n WHERE {' AND '.join(conditions)}"
        " ORDER BY n.number DESC LIMIT ?",
        (*values, query.limit),
    )
    return tuple(_notification(row) for row in rows)


async def load_notification(tx: Transaction, number: int) -> NotificationRow | None:
    """Return a notification by its number, or None."""
    row = await tx.fetch_one(
        f"SELECT {_NOTIFICATION}, {_ACK} FROM notifications n WHERE number = ?", (number,)
    )
    return None if row is None else _notification(row)


async def deliveries_of(tx: Transaction, numbers: Sequence[int]) -> Mapping[int, tuple[Delivery, ...]]:
    """Return the deliveries of notifications, by their numbers."""
    if not numbers:
        return {}
    marks = ", ".join("?" * len(numbers))
    rows = await tx.fetch_all(
        f"SELECT {_DELIVERY} FROM notification_deliveries WHERE notification IN ({marks})"
        " ORDER BY notification, stage, channel, address",
        numbers,
    )
    found = [_delivery(row) for row in rows]
    return {number: tuple(group) for number, group in groupby(found, key=lambda each: each.notification)}


async def due(tx: Transaction, query: DueQuery) -> tuple[Delivery, ...]:
    """Return the deliveries on a channel that are to be tried, those that wait longest first."""
    rows = await tx.fetch_all(
        f"SELECT {_DELIVERY} FROM notification_deliveries WHERE state = 'waiting' AND channel = ?"
        " AND next_at <= ? ORDER BY next_at, notification, address LIMIT ?",
        (query.channel, times.text(query.now), query.limit),
    )
    return tuple(_delivery(row) for row in rows)


async def on_lost_channels(tx: Transaction, channels: Sequence[str]) -> tuple[Delivery, ...]:
    """Return deliveries that wait for a channel that is none of these: nobody will ever send them."""
    rows = await tx.fetch_all(
        f"SELECT {_DELIVERY} FROM notification_deliveries WHERE state = 'waiting'"
        " ORDER BY notification, channel, address"
    )
    return tuple(found for found in map(_delivery, rows) if found.receiver.channel not in channels)


async def begin(tx: Transaction, outcome: Outcome) -> Delivery | None:
    """Note that a delivery is on its way, before anything of it is; None: it was settled meanwhile."""
    if not await _settle(tx, outcome):
        return None
    delivery = outcome.delivery
    state = after(delivery.state, outcome.event)
    return replace(delivery, state=state, attempts=delivery.attempts + 1, changed_at=outcome.at)


async def note(tx: Transaction, outcome: Outcome) -> DeliveryState:
    """Note what happened to a delivery, and on the audit trail if it was given up; return how it stands."""
    state = after(outcome.delivery.state, outcome.event)
    if await _settle(tx, outcome) and state is DeliveryState.DEAD and outcome.entry is not None:
        await audit.append(tx, outcome.entry)
    return state


async def take_up(tx: Transaction, now: datetime) -> int:
    """Have what was under way when the server stopped sent again, with the same id; return how many."""
    return await tx.execute(
        "UPDATE notification_deliveries SET state = ?, next_at = ?, changed_at = ? WHERE state = ?",
        (
            after(DeliveryState.SENDING, DeliveryEvent.INTERRUPTED).value,
            times.text(now),
            times.text(now),
            DeliveryState.SENDING.value,
        ),
    )


async def acknowledge(tx: Transaction, ack: Acknowledgement) -> bool:
    """Note that somebody has seen a notification, and say so on the trail; False: somebody had before."""
    changed = await tx.execute(
        "UPDATE notifications SET acked_at = ?, acked_by = ?, reason = ?"
        " WHERE number = ? AND acked_at IS NULL",
        (times.text(ack.at), ack.actor, ack.reason, ack.number),
    )
    if changed:
        details = (("notification", str(ack.number)), ("reason", ack.reason))
        entry = AuditEntry(
            at=ack.at,
            action="notification.acknowledged",
            actor=ack.actor,
            details=tuple((name, value) for name, value in details if value),
        )
        await audit.append(tx, entry)
    return bool(changed)


async def unanswered(tx: Transaction, rules: Sequence[str]) -> tuple[NotificationRow, ...]:
    """Return notifications by some rules that nobody has acknowledged, as far as something still stands."""
    marks = ", ".join("?" * len(rules))
    rows = await tx.fetch_all(
        f"SELECT {_NOTIFICATION}, {_ACK} FROM notifications n"
        f" WHERE n.acked_at IS NULL AND n.rule IN ({marks}) AND EXISTS"
        " (SELECT 1 FROM notification_items i JOIN notification_subjects s ON s.rule = i.rule"
        " AND s.matter = i.matter AND s.subject = i.subject"
        " WHERE i.notification = n.number AND i.change <> 'clears') ORDER BY n.number",
        rules,
    )
    return tuple(_notification(row) for row in rows)


async def set_stage(tx: Transaction, number: int, stage: int) -> None:
    """Note how far a notification was escalated."""
    await tx.execute("UPDATE notifications SET stage = ? WHERE number = ?", (stage, number))


async def count_by_state(tx: Transaction, _argument: None = None) -> Mapping[DeliveryState, int]:
    """Return how many deliveries wait, are under way, or were given up and nobody has said that he knows."""
    rows = await tx.fetch_all(
        "SELECT d.state, COUNT(*) FROM notification_deliveries d JOIN notifications n"
        " ON n.number = d.notification WHERE d.state IN ('waiting', 'sending')"
        " OR (d.state = 'dead' AND n.acked_at IS NULL) GROUP BY d.state"
    )
    return {DeliveryState(columns.text(state)): columns.number(count) for state, count in rows}


async def _settle(tx: Transaction, outcome: Outcome) -> bool:
    """Save what an event makes of a delivery that stands as it was read; tell whether it did."""
    delivery = outcome.delivery
    changed = await tx.execute(
        "UPDATE notification_deliveries SET state = ?, attempts = attempts + ?, next_at = ?, changed_at = ?,"
        " answer = ? WHERE notification = ? AND channel = ? AND address = ? AND state = ?",
        (
            after(delivery.state, outcome.event).value,
            int(outcome.event is DeliveryEvent.BEGIN),
            times.text(outcome.next_at),
            times.text(outcome.at),
            outcome.answer[:_LONGEST_ANSWER] or delivery.answer,
            *_key(delivery),
            delivery.state.value,
        ),
    )
    return bool(changed)


def _conditions(query: NotificationQuery) -> tuple[list[str], list[Value]]:
    conditions, values = ["n.severity >= ?"], list[Value]([int(query.severity)])
    if query.rule:
        conditions.append("n.rule = ?")
        values.append(query.rule)
    if query.matter is not None:
        conditions.append("n.matter = ?")
        values.append(query.matter.value)
    if query.before is not None:
        conditions.append("n.number < ?")
        values.append(query.before)
    if query.is_acked is not None:
        conditions.append(f"n.acked_at IS {'NOT ' if query.is_acked else ''}NULL")
    if query.state is not None:
        conditions.append(
            "EXISTS (SELECT 1 FROM notification_deliveries d WHERE d.notification = n.number AND d.state = ?)"
        )
        values.append(query.state.value)
    return conditions, values


def _key(delivery: Delivery) -> tuple[Value, ...]:
    return (delivery.notification, delivery.receiver.channel, delivery.receiver.address)


def _notification(row: Row) -> NotificationRow:
    return NotificationRow(
        number=columns.number(row[0]),
        id=columns.text(row[1]),
        rule=columns.text(row[2]),
        matter=Matter(columns.text(row[3])),
        audience=columns.text(row[4]),
        severity=Severity(columns.number(row[5])),
        items=columns.number(row[6]),
        made_at=times.moment(row[7]),
        stage=columns.number(row[8]),
        acked_at=times.optional_moment(row[9]),
        acked_by=columns.text(row[10]),
        reason=columns.text(row[11]),
    )


def _delivery(row: Row) -> Delivery:
    return Delivery(
        notification=columns.number(row[0]),
        receiver=Receiver(channel=columns.text(row[1]), address=columns.text(row[2])),
        stage=columns.number(row[3]),
        state=DeliveryState(columns.text(row[4])),
        attempts=columns.number(row[5]),
        made_at=times.moment(row[6]),
        next_at=times.moment(row[7]),
        changed_at=times.moment(row[8]),
        answer=columns.text(row[9]),
    )
