"""What people are told: how far each rule has told of a subject, what is gathered, and what was made of it.

A subject and what is told of it are saved in one commit, so that nothing is told twice, and nothing is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.letter import Item
from fleet.core.matters import Matter, Severity
from fleet.core.notification import Change, Known, Step
from fleet.core.notification_rule import Receiver
from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times
from fleet.store.counters import count_up, value_of
from fleet.store.meta import get_meta, set_meta
from fleet.store.owners import contacts_of

_ITEMS, _NUMBERS = "notification-items", "notifications"
_TRAIL = "notifications.trail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One matter, as one rule sees it."""

    rule: str
    matter: Matter


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What a look came to, for one matter of one rule."""

    watched: Watched
    steps: Sequence[Step]
    at: datetime
    everybody: bool
    """The rule has receivers of its own."""
    owners: bool
    """Owners are told of their devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailRead:
    """What was found up to an entry of the audit trail."""

    tellings: Sequence[Telling]
    read: int
    """How many entries were looked at, from the first one on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What waits to be told to one audience in one message."""

    watched: Watched
    audience: str
    severity: Severity
    first_at: datetime
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """A notification that is to be made of what is gathered."""

    gathered: Gathered
    id: str
    at: datetime
    receivers: Sequence[Receiver]


async def known(tx: Transaction, watched: Watched) -> tuple[Known, ...]:
    """Return how far a rule has told of the subjects of a matter."""
    rows = await tx.fetch_all(
        "SELECT subject, level, seen_at, domain, device_id FROM notification_subjects"
        " WHERE rule = ? AND matter = ? ORDER BY subject",
        (watched.rule, watched.matter.value),
    )
    return tuple(
        Known(
            subject=columns.text(row[0]),
            level=columns.number(row[1]),
            seen_at=times.moment(row[2]),
            device=_device(columns.text(row[3]), columns.text(row[4])),
        )
        for row in rows
    )


async def tell(tx: Transaction, telling: Telling) -> None:
    """Save what a look came to: how far is told now, and what is to be told."""
    for step in telling.steps:
        await _remember(tx, telling.watched, step)
    owners = await _owners(tx, telling)
    everybody = ("",) if telling.everybody else ()
    rows = [
        (step, audience)
        for step in telling.steps
        if step.change is not None
        for audience in (*everybody, *_owner(owners, step))
    ]
    if not rows:
        return
    first = await value_of(tx, _ITEMS) + 1
    await count_up(tx, _ITEMS, floor=first + len(rows) - 2)
    await tx.execute_many(
        "INSERT INTO notification_items (number, rule, matter, audience, subject, change, severity, text, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (number, *_key(telling.watched), audience, *_told(step), times.text(telling.at))
            for number, (step, audience) in enumerate(rows, start=first)
        ],
    )


async def trail_read(tx: Transaction, _argument: None = None) -> int | None:
    """Return how many entries of the audit trail were looked at; None: nobody has begun."""
    text = await get_meta(tx, _TRAIL)
    return int(text) if text is not None and text.isdecimal() else None


async def tell_of_trail(tx: Transaction, found: TrailRead) -> None:
    """Save what was found in the audit trail, and how far it was read."""
    for telling in found.tellings:
        await tell(tx, telling)
    await set_meta(tx, _TRAIL, str(found.read))


async def gathered(tx: Transaction, _argument: None = None) -> tuple[Gathered, ...]:
    """Return what waits to be told, by rule, matter and audience."""
    rows = await tx.fetch_all(
        "SELECT rule, matter, audience, MAX(severity), MIN(at), COUNT(*) FROM notification_items"
        " WHERE notification IS NULL GROUP BY rule, matter, audience ORDER BY rule, matter, audience"
    )
    return tuple(
        Gathered(
            watched=Watched(rule=columns.text(row[0]), matter=Matter(columns.text(row[1]))),
            audience=columns.text(row[2]),
            severity=Severity(columns.number(row[3])),
            first_at=times.moment(row[4]),
            count=columns.number(row[5]),
        )
        for row in rows
    )


async def make(tx: Transaction, making: Making) -> int:
    """Make one notification of all that is gathered for an audience, and what is to be delivered."""
    watched, audience = making.gathered.watched, making.gathered.audience
    where = "rule = ? AND matter = ? AND audience = ? AND notification IS NULL"
    key: tuple[Value, ...] = (*_key(watched), audience)
    row = await tx.fetch_one(f"SELECT COUNT(*), MAX(severity) FROM notification_items WHERE {where}", key)
    if row is None or not columns.number(row[0]):
        return 0
    number, at = await count_up(tx, _NUMBERS), times.text(making.at)
    await tx.execute(
        "INSERT INTO notifications (number, id, rule, matter, audience, severity, items, made_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (number, making.id, *key, row[1], row[0], at),
    )
    await tx.execute(f"UPDATE notification_items SET notification = ? WHERE {where}", (number, *key))
    await add_deliveries(tx, number, making.receivers, stage=0, at=making.at)
    return number


async def add_deliveries(
    tx: Transaction, number: int, receivers: Sequence[Receiver], *, stage: int, at: datetime
) -> None:
    """Have a notification delivered to receivers; whoever gets it already does not get it again."""
    moment = times.text(at)
    await tx.execute_many(
        "INSERT INTO notification_deliveries (notification, channel, address, stage, state, made_at, next_at,"
        " changed_at) VALUES (?, ?, ?, ?, 'waiting', ?, ?, ?)"
        " ON CONFLICT (notification, channel, address) DO NOTHING",
        [(number, each.channel, each.address, stage, moment, moment, moment) for each in receivers],
    )


async def forget_rules(tx: Transaction, kept: Sequence[Watched]) -> int:
    """Drop what is remembered and gathered for rules that are gone; return how many subjects that were."""
    wanted = {(each.rule, each.matter.value) for each in kept}
    rows = await tx.fetch_all(
        "SELECT rule, matter FROM notification_subjects UNION"
        " SELECT rule, matter FROM notification_items WHERE notification IS NULL"
    )
    gone = [row for row in rows if row not in wanted]
    for row in gone:
        await tx.execute("DELETE FROM notification_subjects WHERE rule = ? AND matter = ?", row)
        await tx.execute(
            "DELETE FROM notification_items WHERE rule = ? AND matter = ? AND notification IS NULL", row
        )
    return len(gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemQuery:
    """A page of what a notification tells, the gravest first; `skip` so many."""

    notification: int
    skip: int = 0
    limit: int = 100


async def items(tx: Transaction, query: ItemQuery) -> tuple[Item, ...]:
    """Return what a notification tells."""
    rows = await tx.fetch_all(
        "SELECT change, subject, text, severity, at FROM notification_items WHERE notification = ?"
        " ORDER BY severity DESC, number LIMIT ? OFFSET ?",
        (query.notification, query.limit, query.skip),
    )
    return tuple(
        Item(
            change=Change(columns.text(row[0])),
            subject=columns.text(row[1]),
            text=columns.text(row[2]),
            severity=Severity(columns.number(row[3])),
            at=times.moment(row[4]),
        )
        for row in rows
    )


async def prune(tx: Transaction, before: datetime) -> int:
    """Drop notifications made before a time, with all that belongs to them; what still waits stays."""
    old = "SELECT number FROM notifications n WHERE made_at < ? AND NOT EXISTS (SELECT 1 FROM"
    old += " notification_deliveries d WHERE d.notification = n.number AND d.state IN ('waiting', 'sending'))"
    rows = await tx.fetch_all(f"{old} ORDER BY number LIMIT 500", (times.text(before),))
    for table, column in (
        ("notification_items", "notification"),
        ("notification_deliveries", "notification"),
        ("notifications", "number"),
    ):
        await tx.execute_many(f"DELETE FROM {table} WHERE {column} = ?", rows)
    return len(rows)


async def _remember(tx: Transaction, watched: Watched, step: Step) -> None:
    key: Row = (*_key(watched), step.subject)
    if step.known is None:
        await tx.execute(
            "DELETE FROM notification_subjects WHERE rule = ? AND matter = ? AND subject = ?", key
        )
        return
    await tx.execute(
        "INSERT INTO notification_subjects (rule, matter, subject, level, seen_at, domain, device_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rule, matter, subject) DO UPDATE SET"
        " level = excluded.level, seen_at = excluded.seen_at",
        (*key, step.known.level, times.text(step.known.seen_at), *_identity(step.device)),
    )


def _owner(owners: Mapping[Identity, str], step: Step) -> tuple[str, ...]:
    owner = "" if step.device is None else owners.get(step.device, "")
    return (owner,) if owner else ()


async def _owners(tx: Transaction, telling: Telling) -> dict[Identity, str]:
    """Return whose owners are told: those who can be reached."""
    if not telling.owners:
        return {}
    devices = [each.device for each in telling.steps if each.change is not None and each.device is not None]
    found = await contacts_of(tx, devices)
    return {device: contact.owner for device, contact in found.items() if contact.addresses}


def _device(domain: str, device_id: str) -> Identity | None:
    return Identity(domain=domain, device_id=device_id) if device_id else None


def _identity(device: Identity | None) -> tuple[str, str]:
    return ("", "") if device is None else (device.domain, device.device_id)


def _key(watched: Watched) -> tuple[Value, Value]:
    return (watched.rule, watched.matter.value)


def _told(step: Step) -> tuple[Value, ...]:
    assert step.change is not None  # noqa: S101 - only what is told gets here
    return (step.subject, step.change.value, int(step.severity), step.text)
