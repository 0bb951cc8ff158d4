"""Sends a real notification about nothing to those whom a rule or channel names; tells what came of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.core.notification import line
from fleet.core.notification_rule import Receiver, Rule
from fleet.errors import FleetError, NotFoundError
from fleet.model import AuditEntry
from fleet.ra.context import Context
from fleet.ra.telling.letters import test_letter
from fleet.store import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of one message."""

    receiver: Receiver
    rule: str
    arrived: bool
    answer: str
    """In the receiver's words, or why it was not reached."""
    hint: str


async def send_test(context: Context, name: str, *, actor: str) -> Sequence[Trial]:
    """Send a test to all receivers of a rule or on a channel, or to all where the name is empty.

    Raises:
        NotFoundError: there is no such rule or channel, or nobody is told by it.
    """
    wanted = dict(reversed(list(_receivers(context, name))))
    if not wanted:
        known = ", ".join([*(rule.name for rule in context.config.notice.rules), *context.carriers])
        what = (
            f"no rule and no receiver on a channel is called {line(name, 64)}" if name else "nobody is told"
        )
        began = known or "no [[notice.rule]]"
        raise NotFoundError(
            what, hint=f"fleet serve began with {began}; after a change of fleet.toml start it anew"
        )
    trials = [await _try(context, receiver, rule) for receiver, rule in sorted(wanted.items())]
    await context.store.write(audit.append, _entry(context, trials, actor))
    return trials


def _receivers(context: Context, name: str) -> Iterator[tuple[Receiver, str]]:
    for rule in context.config.notice.rules:
        for receiver in _everybody(rule):
            if name in {"", rule.name, receiver.channel}:
                yield receiver, rule.name


def _everybody(rule: Rule) -> Iterator[Receiver]:
    yield from rule.to
    for step in rule.escalations:
        yield from step.to


async def _try(context: Context, receiver: Receiver, rule: str) -> Trial:
    try:
        carrier = context.carriers.get(receiver.channel)
        if carrier is None:
            raise NotFoundError("the channel is in force after a restart", hint="start fleet serve again")
        answer = await carrier.carry(test_letter(context, rule=rule), receiver.address)
    except FleetError as error:
        return Trial(
            receiver=receiver, rule=rule, arrived=False, answer=line(str(error)), hint=error.hint or ""
        )
    return Trial(receiver=receiver, rule=rule, arrived=True, answer=line(answer), hint="")


def _entry(context: Context, trials: Sequence[Trial], actor: str) -> AuditEntry:
    details = [(str(each.receiver), "arrived" if each.arrived else each.answer) for each in trials]
    return AuditEntry(at=context.clock(), action="notification.tested", actor=actor, details=tuple(details))
