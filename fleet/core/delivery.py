"""The way of one notification to one receiver: tried, tried again, given up. Pure.

What is under way is on record before anything is sent, and its outcome after. A stop in between leaves it
under way: it is sent once more, with the same id, by which a receiver knows that it has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from fleet.core.notification_rule import Escalation, Receiver

_FIRST_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(hours=1)
_MOST_DOUBLINGS = 10


class DeliveryState(StrEnum):
    """Where a delivery stands; stored by name."""

    WAITING = "waiting"
    SENDING = "sending"
    """On its way: whether it arrived is not known yet."""
    SENT = "sent"
    """The receiver said that it has it."""
    DEAD = "dead"
    """Given up."""


class DeliveryEvent(StrEnum):
    """What happens to a delivery."""

    BEGIN = "begin"
    ACCEPTED = "accepted"
    FAILED = "failed"
    """Not now: it may succeed later."""
    REFUSED = "refused"
    """The receiver will never take it."""
    INTERRUPTED = "interrupted"
    """The server stopped while it was under way."""
    EXPIRED = "expired"
    """Its time is over, or its channel is gone."""


_S, _E = DeliveryState, DeliveryEvent

TRANSITIONS: Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryState] = MappingProxyType(
    {
        (_S.WAITING, _E.BEGIN): _S.SENDING,
        (_S.WAITING, _E.EXPIRED): _S.DEAD,
        (_S.SENDING, _E.ACCEPTED): _S.SENT,
        (_S.SENDING, _E.FAILED): _S.WAITING,
        (_S.SENDING, _E.REFUSED): _S.DEAD,
        (_S.SENDING, _E.INTERRUPTED): _S.WAITING,
        (_S.SENDING, _E.EXPIRED): _S.DEAD,
    }
)
"""What is not in here changes nothing: what was sent or given up stays so."""


def after(state: DeliveryState, event: DeliveryEvent) -> DeliveryState:
    """Return where an event leaves a delivery."""
    return TRANSITIONS.get((state, event), state)


def pause(attempts: int, jitter: float) -> timedelta:
    """Return how long to wait after so many attempts; `jitter`, from 0 to 1, spreads those of many."""
    longest = min(_FIRST_PAUSE * (1 << min(max(attempts - 1, 0), _MOST_DOUBLINGS)), _LONGEST_PAUSE)
    return longest / 2 + longest / 2 * jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A notification as far as escalation goes."""

    made_at: datetime
    stage: int
    """How many escalations were taken."""
    is_acked: bool
    stands: bool
    """Something of it is not over yet."""


def escalated_to(
    steps: Sequence[Escalation], unanswered: Unanswered, *, now: datetime
) -> tuple[int, tuple[Receiver, ...]]:
    """Return the stage that a notification has reached, and who is told because of it."""
    if unanswered.is_acked or not unanswered.stands:
        return unanswered.stage, ()
    due = sum(unanswered.made_at + step.after <= now for step in steps)
    reached = max(due, unanswered.stage)
    return reached, tuple(receiver for step in steps[unanswered.stage : reached] for receiver in step.to)
