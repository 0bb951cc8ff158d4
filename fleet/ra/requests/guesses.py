"""Counts wrong one-time codes, over every channel: by where they come from, and by the device they are for.

A code has 80 random bits: nobody guesses one. The limits keep trying cheap for us, and seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from device_agent.wire.problems import ProblemCode
from fleet.errors import RefusedError
from fleet.ra.context import Asker, Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Whose allowances a code uses up if it is wrong."""

    source: str
    device: str


def guess_of(context: Context, asker: Asker, device_id: str) -> Guess:
    """Return who tries a code, as far as the channel knows, and for which device he says it is.

    A station counts by its name. What MQTT tells of nobody, such as a connection that the broker forgot,
    counts as one source: keys, and so client ids, cost nothing.
    """
    address = asker.address or context.presence.address_of(asker.client_id)
    source = f"station {asker.station}" if asker.station else address or f"unknown {asker.listener}"
    return Guess(source=f"code from {source}", device=f"code for {device_id}")


@contextmanager
def counted(context: Context, guess: Guess) -> Iterator[None]:
    """Let a code be tried, and count it if it is wrong.

    Of one device, tries at once are counted before they are judged, so that no race widens its limit; of one
    source they are not, for many lanes of a factory stand behind one address.

    Raises:
        RefusedError: too many were wrong; this one was not even looked at.
    """
    now = context.clock()
    if not context.by_address.has_room(guess.source, now=now):
        raise _too_many("from this place")
    if not context.guesses.allow(guess.device, now=now):
        raise _too_many("for this device")
    wrong = False
    try:
        yield
    except RefusedError as error:
        wrong = error.code is ProblemCode.CODE_INVALID
        raise
    finally:
        if wrong:
            context.by_address.allow(guess.source, now=now)
        else:
            context.guesses.give_back(guess.device, now=now)


def _too_many(where: str) -> RefusedError:
    return RefusedError(f"too many wrong codes {where}", code=ProblemCode.RATE_LIMITED)
