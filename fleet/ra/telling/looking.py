"""Looks for what people have to be told, compares it with what they were told, and saves the difference.

A crash between two commits repeats the look, which then finds what is left to tell, and nothing else.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import islice

from fleet.core.matters import MATTERS, Course, Matter
from fleet.core.notification import Fact, Known, Step, happenings, steps
from fleet.core.notification_rule import Rule
from fleet.errors import FleetError
from fleet.ra.context import Context
from fleet.ra.telling.facts import BY_DOCTOR, FACTS, Examine, Survey
from fleet.ra.telling.trail_facts import entries_of_interest, entries_so_far, facts_of
from fleet.store import notifications
from fleet.store.notifications import Telling, TrailRead, Watched

_log = logging.getLogger(__name__)

_AT_ONCE = 500
"""Subjects that one commit tells of."""


async def look(context: Context, matters: Iterable[Matter], *, examine: Examine) -> None:
    """Look for some matters, as far as any rule is about them, and save what is to be told."""
    rules = context.config.notice.rules
    wanted = {each for each in matters if each in FACTS and any(each in rule.matters for rule in rules)}
    if not wanted:
        return
    ahead = max((rule.thresholds[0] for rule in rules), default=timedelta(0))
    findings = await examine(context) if wanted & BY_DOCTOR else ()
    survey = Survey(context=context, ahead=ahead, findings=findings)
    for matter in sorted(wanted):
        try:
            facts = await FACTS[matter](survey)
        except FleetError as error:
            _log.warning("nobody can be told of %s now: %s", matter, error)
            continue
        for rule in rules:
            if matter in rule.matters:
                await _tell(context, rule, matter, facts)


async def look_at_trail(context: Context) -> None:
    """Save what is to be told of what the audit trail has new; each entry is looked at once."""
    read = await context.store.read(notifications.trail_read, None)
    if read is None:
        # What happened before anybody was to be told is history.
        began = TrailRead(tellings=(), read=await context.store.read(entries_so_far, None))
        await context.store.write(notifications.tell_of_trail, began)
        return
    entries, covered = await context.store.read(entries_of_interest, read)
    if covered == read:
        return
    found = facts_of(entries)
    tellings = [
        telling
        for rule in context.config.notice.rules
        for matter in sorted(rule.matters)
        if MATTERS[matter].course is Course.PASSING
        for telling in await _happened(context, rule, matter, found)
    ]
    await context.store.write(notifications.tell_of_trail, TrailRead(tellings=tellings, read=covered))


async def forget(context: Context) -> None:
    """Drop what is remembered for rules that are gone, or no longer about a matter."""
    kept = [
        Watched(rule=rule.name, matter=matter)
        for rule in context.config.notice.rules
        for matter in rule.matters
    ]
    await context.store.write(notifications.forget_rules, kept)


async def _tell(context: Context, rule: Rule, matter: Matter, facts: Sequence[Fact]) -> None:
    known = await _known(context, rule, matter)
    left = iter(steps(rule, known, facts, now=context.clock()))
    while some := list(islice(left, _AT_ONCE)):
        await context.store.write(notifications.tell, _telling(context, rule, matter, some))


async def _happened(context: Context, rule: Rule, matter: Matter, found: Sequence[Fact]) -> list[Telling]:
    known = await _known(context, rule, matter)
    of_matter = [fact for fact in found if fact.matter is matter]
    some = happenings(rule, known, of_matter, now=context.clock())
    return [_telling(context, rule, matter, some)] if some else []


async def _known(context: Context, rule: Rule, matter: Matter) -> dict[str, Known]:
    watched = Watched(rule=rule.name, matter=matter)
    return {each.subject: each for each in await context.store.read(notifications.known, watched)}


def _telling(context: Context, rule: Rule, matter: Matter, some: Sequence[Step]) -> Telling:
    return Telling(
        watched=Watched(rule=rule.name, matter=matter),
        steps=some,
        at=context.clock(),
        everybody=bool(rule.to),
        owners=bool(rule.owners),
    )
