"""What operators see of notifications, and that they have seen one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.core.delivery import DeliveryState
from fleet.core.letter import Item
from fleet.errors import FleetError, NotFoundError
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good
from fleet.store import deliveries
from fleet.store.deliveries import Acknowledgement, Delivery, NotificationQuery, NotificationRow
from fleet.store.notifications import ItemQuery, items

_CHECK = "notifications"
_MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A notification, and its way to each receiver."""

    row: NotificationRow
    deliveries: Sequence[Delivery]


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeNotification:
    """A notification with what it tells, up to a thousand subjects."""

    notification: Notification
    items: Sequence[Item]


async def list_notifications(context: Context, query: NotificationQuery) -> tuple[Notification, ...]:
    """Return a page of notifications, the newest first."""
    return await context.store.read(_list, query)


async def show(context: Context, number: int) -> WholeNotification:
    """Return one notification; raises `NotFoundError`."""
    found = await context.store.read(_load, number)
    if found is None:
        raise NotFoundError(f"there is no notification {number}", hint="fleet notice list")
    return found


async def acknowledge(context: Context, number: int, *, actor: str, reason: str) -> NotificationRow:
    """Note that somebody has seen a notification: nobody else is told of it. Raises `NotFoundError`."""
    await show(context, number)
    ack = Acknowledgement(number=number, actor=actor, reason=reason, at=context.clock())
    await context.store.write(deliveries.acknowledge, ack)
    return (await show(context, number)).notification.row


async def counts(context: Context) -> Mapping[DeliveryState, int]:
    """Return how many deliveries wait or are under way, and how many were given up that nobody has seen."""
    return await context.store.read(deliveries.count_by_state, None)


async def channels(context: Context) -> list[Finding]:
    """Look at what each channel needs, and for what could not be delivered."""
    found: list[Finding] = []
    for name, carrier in context.carriers.items():
        try:
            await asyncio.to_thread(carrier.check)
        except FleetError as error:
            fix = error.hint or f"see [notice.channels.{name}] in fleet.toml"
            found.append(bad(_CHECK, f"the channel {name} cannot be used: {error}", fix=fix))
    if dead := (await counts(context)).get(DeliveryState.DEAD, 0):
        fix = "fleet notice list --state dead, and fleet notice ack NUMBER once somebody knows"
        found.append(bad(_CHECK, f"could not be delivered, and nobody has seen them: {dead}", fix=fix))
    rules = context.config.notice.rules
    if not rules:
        return [*found, good(_CHECK, "no [[notice.rule]] in fleet.toml: people are told of nothing")]
    return found or [good(_CHECK, f"{len(context.carriers)} channels, {len(rules)} rules")]


async def _list(tx: Transaction, query: NotificationQuery) -> tuple[Notification, ...]:
    rows = await deliveries.list_notifications(tx, query)
    of_each = await deliveries.deliveries_of(tx, [row.number for row in rows])
    return tuple(Notification(row=row, deliveries=of_each.get(row.number, ())) for row in rows)


async def _load(tx: Transaction, number: int) -> WholeNotification | None:
    row = await deliveries.load_notification(tx, number)
    if row is None:
        return None
    of_each = await deliveries.deliveries_of(tx, [number])
    return WholeNotification(
        notification=Notification(row=row, deliveries=of_each.get(number, ())),
        items=await items(tx, ItemQuery(notification=number, limit=_MOST_ITEMS)),
    )
