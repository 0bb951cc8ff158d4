"""Makes notifications of what was gathered, has those escalated that nobody answers, and lets old ones go.

One message tells one audience of all that came together: five hundred devices are one message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.channel_sections import is_mail_address
from fleet.core.delivery import Unanswered, escalated_to
from fleet.core.matters import Severity
from fleet.core.notification_rule import Receiver, Rule
from fleet.core.quiet_hours import told_at
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store import deliveries, notifications
from fleet.store.deliveries import NotificationRow
from fleet.store.notifications import Gathered, Making
from fleet.store.owners import load_owner

_ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Escalating:
    number: int
    stage: int
    receivers: tuple[Receiver, ...]
    at: datetime


async def make_notifications(context: Context) -> int:
    """Make what is due of what was gathered; return how many were made."""
    made = 0
    for gathered in await context.store.read(notifications.gathered, None):
        rule = context.config.notice.rule(gathered.watched.rule)
        if rule is not None and due_at(rule, gathered, now=context.clock()) <= context.clock():
            receivers = await _receivers(context, rule, gathered.audience)
            making = Making(
                gathered=gathered,
                id=context.randomness(_ID_BYTES).hex(),
                at=context.clock(),
                receivers=receivers,
            )
            made += bool(await context.store.write(notifications.make, making))
    return made


def due_at(rule: Rule, gathered: Gathered, *, now: datetime) -> datetime:
    """Return when what was gathered is told: at once if it is critical, and outside of quiet hours."""
    is_urgent = gathered.severity is Severity.CRITICAL
    earliest = now if is_urgent else max(now, gathered.first_at + rule.gather)
    return told_at(rule.quiet, gathered.severity, earliest)


async def escalate(context: Context) -> int:
    """Have those told in turn who are next, where nobody has acknowledged; return how many notifications."""
    count, now = 0, context.clock()
    rules = {rule.name: rule for rule in context.config.notice.rules if rule.escalations}
    for row in await context.store.read(deliveries.unanswered, tuple(rules)) if rules else ():
        rule = rules[row.rule]
        if row.audience and rule.to:
            continue  # everybody's notification tells of the same, and is escalated
        if told_at(rule.quiet, row.severity, now) > now:
            continue
        stage, receivers = escalated_to(rule.escalations, _unanswered(row), now=now)
        if stage != row.stage:
            step = _Escalating(number=row.number, stage=stage, receivers=receivers, at=now)
            await context.store.write(_take_stage, step)
            count += 1
    return count


async def let_go(context: Context) -> None:
    """Drop notifications that are older than they are kept."""
    before = context.clock() - context.config.notice.keep
    while await context.store.write(notifications.prune, before):
        pass


async def _receivers(context: Context, rule: Rule, audience: str) -> Sequence[Receiver]:
    if not audience:
        return rule.to
    owner = await context.store.read(load_owner, audience)
    addresses = () if owner is None else owner.contacts
    return [Receiver(channel=rule.owners, address=each) for each in addresses if is_mail_address(each)]


def _unanswered(row: NotificationRow) -> Unanswered:
    return Unanswered(made_at=row.made_at, stage=row.stage, is_acked=row.acked_at is not None, stands=True)


async def _take_stage(tx: Transaction, step: _Escalating) -> None:
    await notifications.add_deliveries(tx, step.number, step.receivers, stage=step.stage, at=step.at)
    await deliveries.set_stage(tx, step.number, step.stage)
