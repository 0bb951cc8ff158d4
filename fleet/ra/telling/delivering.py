"""Empties the outbox: each channel by itself, so that one that hangs keeps nobody else waiting.

That a delivery is under way is on record before anything is sent, and its outcome after. What was under way
when the server stopped is sent once more, with the same id: a receiver that looks at it takes it once.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fleet.core.delivery import DeliveryEvent, DeliveryState, pause
from fleet.core.notification import line
from fleet.errors import FleetError, RefusedError
from fleet.model import AuditEntry
from fleet.ra.carrier import Carrier
from fleet.ra.context import Context
from fleet.ra.telling.letters import letter_of
from fleet.store import deliveries
from fleet.store.deliveries import Delivery, DueQuery, Outcome

LOOK_SECONDS = 5
_MOST_JITTER = 0xFFFF

_log = logging.getLogger(__name__)


async def keep_delivering(context: Context, channel: str) -> None:
    """Deliver on one channel what is due, again and again, until cancelled."""
    while True:
        try:
            await deliver(context, channel)
        except FleetError as error:
            _log.warning("the outbox of the channel %s: %s", channel, error)
        await asyncio.sleep(LOOK_SECONDS)


async def deliver(context: Context, channel: str) -> int:
    """Try every delivery on a channel that is due, one after the other; return how many were tried."""
    carrier = context.carriers[channel]
    found = await context.store.read(deliveries.due, DueQuery(channel=channel, now=context.clock()))
    for delivery in found:
        await _try(context, carrier, delivery)
    return len(found)


async def give_up_lost(context: Context) -> None:
    """Give up what waits for a channel that the configuration no longer has."""
    named = {channel.name for channel in context.config.notice.channels}
    known = tuple(named | set(context.carriers))  # one that was added is there after a restart
    for delivery in await context.store.read(deliveries.on_lost_channels, known):
        said = f"the channel {delivery.receiver.channel} is no longer in fleet.toml"
        await _note(context, delivery, Said(event=DeliveryEvent.EXPIRED, answer=said))


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of an attempt, in the receiver's words or ours."""

    event: DeliveryEvent
    answer: str


async def attempt(context: Context, carrier: Carrier, delivery: Delivery) -> Said:
    """Send a notification to one receiver, and return what came of it; never raises."""
    try:
        letter = await letter_of(context, delivery.notification)
        if letter is None:
            return Said(event=DeliveryEvent.EXPIRED, answer="the notification is not on record any more")
        answer = await carrier.carry(letter, delivery.receiver.address)
    except RefusedError as error:
        return Said(event=DeliveryEvent.REFUSED, answer=line(str(error)))
    except FleetError as error:
        return Said(event=DeliveryEvent.FAILED, answer=line(str(error)))
    except Exception as error:  # noqa: BLE001 - the outermost edge of one delivery; others must not suffer
        _log.exception("a delivery on the channel %s failed", delivery.receiver.channel)
        return Said(event=DeliveryEvent.FAILED, answer=f"it failed: {type(error).__name__}")
    return Said(event=DeliveryEvent.ACCEPTED, answer=line(answer))


async def _try(context: Context, carrier: Carrier, delivery: Delivery) -> None:
    if is_over(context, delivery):
        await _note(context, delivery, Said(event=DeliveryEvent.EXPIRED, answer=delivery.answer))
        return
    now = context.clock()
    beginning = Outcome(delivery=delivery, event=DeliveryEvent.BEGIN, at=now, next_at=now)
    begun = await context.store.write(deliveries.begin, beginning)
    if begun is None:
        return
    said = await attempt(context, carrier, begun)
    if said.event is DeliveryEvent.FAILED and is_over(context, begun):
        said = Said(event=DeliveryEvent.EXPIRED, answer=said.answer)
    await _note(context, begun, said)


def is_over(context: Context, delivery: Delivery) -> bool:
    """Tell whether a delivery had its time."""
    return context.clock() >= delivery.made_at + context.config.notice.give_up


async def _note(context: Context, delivery: Delivery, said: Said) -> None:
    now = context.clock()
    outcome = Outcome(
        delivery=delivery,
        event=said.event,
        at=now,
        next_at=_next_at(context, delivery, now),
        answer=said.answer,
        entry=_given_up(delivery, said, now),
    )
    state = await context.store.write(deliveries.note, outcome)
    word = _WORDS.get(state)
    if word is not None:
        context.meter.notifications[delivery.receiver.channel, word] += 1
    if state is not DeliveryState.SENT:
        _log.warning(
            "notification %d to %s: %s", delivery.notification, delivery.receiver, said.answer or state.value
        )


_WORDS: Mapping[DeliveryState, str] = {
    DeliveryState.SENT: "sent",
    DeliveryState.WAITING: "failed",
    DeliveryState.DEAD: "dead",
}


def _next_at(context: Context, delivery: Delivery, now: datetime) -> datetime:
    jitter = int.from_bytes(context.randomness(2)) / _MOST_JITTER
    return now + pause(delivery.attempts, jitter)


def _given_up(delivery: Delivery, said: Said, now: datetime) -> AuditEntry:
    """Return what the audit trail is told, should this be the end of it."""
    details = (
        ("notification", str(delivery.notification)),
        ("receiver", str(delivery.receiver)),
        ("attempts", str(delivery.attempts)),
        ("answer", said.answer),
    )
    return AuditEntry(
        at=now,
        action="notification.undelivered",
        actor="server",
        details=tuple((name, value) for name, value in details if value),
    )
