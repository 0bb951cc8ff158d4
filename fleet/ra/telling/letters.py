"""Puts a notification into words for its receivers, out of the records alone: the same at every attempt."""

from fleet.core.letter import MOST_LINES, Item, Letter
from fleet.core.matters import Severity
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store.deliveries import NotificationRow, load_notification
from fleet.store.notifications import ItemQuery, items


async def letter_of(context: Context, number: int) -> Letter | None:
    """Return a notification as its receivers get it; None where there is no such one."""
    found = await context.store.read(_load, number)
    if found is None:
        return None
    row, told = found
    return Letter(
        id=row.id,
        number=row.number,
        fleet=context.fleet,
        rule=row.rule,
        matter=row.matter,
        severity=row.severity,
        at=row.made_at,
        items=told,
        count=row.items,
        audience=row.audience,
    )


def test_letter(context: Context, *, rule: str) -> Letter:
    """Return what a test sends: a notification about nothing."""
    return Letter(
        id=context.randomness(16).hex(),
        number=0,
        fleet=context.fleet,
        rule=rule,
        matter=None,
        severity=Severity.INFO,
        at=context.clock(),
        items=(),
        count=0,
    )


async def _load(tx: Transaction, number: int) -> tuple[NotificationRow, tuple[Item, ...]] | None:
    row = await load_notification(tx, number)
    if row is None:
        return None
    return row, await items(tx, ItemQuery(notification=number, limit=MOST_LINES))
