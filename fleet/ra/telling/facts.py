"""Finds what people may have to be told, one function a matter. It only looks, and decides nothing.

Each look is whole: what is not among the facts is over. A look that cannot be made raises, so that nothing is
called over because it could not be seen.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from device_agent.wire.identity import Identity
from fleet.core.authority import ADMITTED, LISTED
from fleet.core.causes import MEANINGS
from fleet.core.matters import Matter, Severity
from fleet.core.notification import Fact
from fleet.model import Purpose
from fleet.ports import Work
from fleet.ra.authority.authority_views import list_views
from fleet.ra.context import Context
from fleet.ra.finding import Finding
from fleet.store import audit, telling_facts
from fleet.store.audit import AuditQuery
from fleet.store.contacts import count_refusals
from fleet.store.telling_facts import NEARLY_FULL_PERCENT, Ending, EndingQuery, Troubled, Use

AUDIT_CHECK = "audit trail"
"""The doctor's check of the audit trail, which is a matter of its own."""

Examine = Callable[[Context], Awaitable[Sequence[Finding]]]
"""The doctor."""


_MOST_ALARMS = 100
_JUST_NOW = timedelta(seconds=60)
"""An alarm that was resolved within it is told all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look needs: the context, how far ahead it goes, and what the doctor found."""

    context: Context
    ahead: timedelta
    findings: Sequence[Finding] = ()

    @property
    def now(self) -> datetime:
        return self.context.clock()


async def _ends(purpose: Purpose, matter: Matter, survey: Survey) -> list[Fact]:
    query, found = EndingQuery(purpose=purpose, before=survey.now + survey.ahead), list[Fact]()
    while page := await survey.context.store.read(telling_facts.ending, query):
        found += [_ending(matter, each, survey.now) for each in page]
        query = query.following(page[-1])
    return found


def _ending(matter: Matter, one: Ending, now: datetime) -> Fact:
    domain = "" if one.identity is None else one.identity.domain
    return Fact(
        matter=matter,
        subject=one.name,
        text=f"its certificate {one.serial} ends {one.not_after:%Y-%m-%d %H:%M} UTC",
        at=now,
        ends=one.not_after,
        domain=domain,
        device=one.identity,
    )


async def _authorities(survey: Survey) -> list[Fact]:
    return [
        Fact(
            matter=Matter.CA_ENDS,
            subject=view.record.folder,
            text=f"the CA ends {view.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            at=survey.now,
            ends=view.certificate.not_valid_after_utc,
            domain=view.record.domain,
        )
        for view in await list_views(survey.context)
        if view.certificate is not None and view.record.state in ADMITTED
    ]


async def _lists(survey: Survey) -> list[Fact]:
    views = await list_views(survey.context)
    roots = [
        Fact(
            matter=Matter.CRL_ENDS,
            subject=view.record.folder,
            text=f"the revocation list of the root ends {view.crl_until:%Y-%m-%d %H:%M} UTC",
            at=survey.now,
            ends=view.crl_until,
            domain=view.record.domain,
        )
        for view in views
        if view.crl_until is not None and view.record.is_root and view.record.state in LISTED
    ]
    names = {view.record.issuer: view.record for view in views}
    late = [_late(survey, crl.made_at, crl.next_update) for crl in survey.context.crls.all()]
    return roots + [
        Fact(
            matter=Matter.CRL_ENDS,
            subject=record.folder,
            text=f"its revocation list was not made anew, and ends {crl.next_update:%Y-%m-%d %H:%M} UTC",
            at=survey.now,
            count=level,
            severity=Severity.CRITICAL if level > 1 else Severity.WARNING,
            domain=record.domain,
        )
        for crl, level in zip(survey.context.crls.all(), late, strict=True)
        if level and (record := names.get(crl.name.issuer)) is not None
    ]


def _late(survey: Survey, made_at: datetime, until: datetime) -> int:
    """Return 1 if under a quarter of a list's life is left: a new one is made at the half. 2: it is over."""
    if until <= survey.now:
        return 2
    return int(until - survey.now < (until - made_at) / 4)


async def _missed(survey: Survey) -> list[Fact]:
    return [
        Fact(
            matter=Matter.RENEWAL_MISSED,
            subject=one.identity.name,
            text="its certificate ended, and was not renewed"
            + ("" if one.since is None else f": {one.since:%Y-%m-%d %H:%M} UTC"),
            at=survey.now,
            domain=one.identity.domain,
            device=one.identity,
        )
        for one in await _all(survey, telling_facts.missed)
    ]


async def _alarms(survey: Survey) -> list[Fact]:
    """Return the alarms that stand, and those that came and went between two looks."""
    standing = await _all(survey, telling_facts.alarmed)
    raised = await survey.context.store.read(
        audit.search_newest, AuditQuery(action="device.alarmed", limit=_MOST_ALARMS)
    )
    known = [one.identity for one in standing]
    passed = {
        Identity(domain=each.entry.domain, device_id=each.entry.device_id)
        for each in raised
        if each.entry.at >= survey.now - _JUST_NOW
    }
    return [_alarm(survey, identity) for identity in (*known, *sorted(passed - set(known), key=_name))]


def _name(identity: Identity) -> str:
    return identity.name


def _alarm(survey: Survey, identity: Identity) -> Fact:
    return Fact(
        matter=Matter.DEVICE_ALARM,
        subject=identity.name,
        text="two seem to have its key, or its code: find out which is the right one",
        at=survey.now,
        domain=identity.domain,
        device=identity,
    )


async def _all(survey: Survey, find: Work[tuple[str, str], tuple[Troubled, ...]]) -> list[Troubled]:
    after, found = ("", ""), list[Troubled]()
    while page := await survey.context.store.read(find, after):
        found += page
        after = (page[-1].identity.domain, page[-1].identity.device_id)
    return found


async def _quotas(survey: Survey) -> list[Fact]:
    rooms = [
        Use(
            what=f"CA {view.record.folder}",
            domain=view.record.domain,
            used=view.leaves,
            limit=view.record.room,
        )
        for view in await list_views(survey.context)
        if view.record.room and view.leaves * 100 >= view.record.room * NEARLY_FULL_PERCENT
    ]
    return [
        Fact(
            matter=Matter.QUOTA,
            subject=one.what,
            text=f"{one.used} of {one.limit} are used",
            at=survey.now,
            count=2 if one.used >= one.limit else 1,
            domain=one.domain,
        )
        for one in [*await survey.context.store.read(telling_facts.nearly_full, None), *rooms]
    ]


async def _refusals(survey: Survey) -> list[Fact]:
    settings = survey.context.config.notice
    found = await survey.context.store.read(count_refusals, survey.now - settings.burst_within)
    minutes = settings.burst_within // timedelta(minutes=1)
    return [
        Fact(
            matter=Matter.BROKER_REFUSALS,
            subject=cause.value,
            text=f"{count} connections refused within {minutes} minutes: {MEANINGS[cause].text}",
            at=survey.now,
        )
        for cause, count in found
        if count >= settings.burst
    ]


async def _doctor(survey: Survey) -> list[Fact]:
    bad: dict[str, list[str]] = {}
    for each in survey.findings:
        if not each.ok and each.check != AUDIT_CHECK:
            bad.setdefault(each.check, []).append(each.text)
    return [
        Fact(matter=Matter.DOCTOR, subject=check, text="; ".join(texts), at=survey.now, count=len(texts))
        for check, texts in bad.items()
    ]


async def _audit_trail(survey: Survey) -> list[Fact]:
    texts = [each.text for each in survey.findings if each.check == AUDIT_CHECK and not each.ok]
    fact = Fact(
        matter=Matter.AUDIT_DAMAGED,
        subject="audit trail",
        text="; ".join(texts),
        at=survey.now,
        count=len(texts),
    )
    return [fact] if texts else []


async def _backup(survey: Survey) -> list[Fact]:
    """The age counts from the last backup, or from the fleet's first day."""
    read = survey.context.store.read
    newest = await read(audit.search_newest, AuditQuery(action="backup.made", limit=1))
    first = newest or await read(audit.search, AuditQuery(limit=1))
    age = survey.context.config.notice.backup_age
    if first and survey.now - first[0].entry.at < age:
        return []
    last = f"the last one was made {newest[0].entry.at:%Y-%m-%d}" if newest else "there is none"
    text = f"{last}; after {age.days} days another one is due"
    return [Fact(matter=Matter.BACKUP_OLD, subject="backup", text=text, at=survey.now)]


_BY_PURPOSE: Mapping[Purpose, Matter] = MappingProxyType(
    {
        Purpose.DEVICE: Matter.LEAF_ENDS,
        Purpose.CLAIM: Matter.CLAIM_ENDS,
        Purpose.SERVER: Matter.SERVER_ENDS,
        Purpose.SERVICE: Matter.SERVICE_ENDS,
        Purpose.STATION: Matter.STATION_ENDS,
        Purpose.OPERATOR: Matter.OPERATOR_ENDS,
        Purpose.SIGNER: Matter.SIGNER_ENDS,
    }
)

FACTS: Mapping[Matter, Callable[[Survey], Awaitable[list[Fact]]]] = MappingProxyType(
    {
        **{matter: partial(_ends, purpose, matter) for purpose, matter in _BY_PURPOSE.items()},
        Matter.CA_ENDS: _authorities,
        Matter.CRL_ENDS: _lists,
        Matter.RENEWAL_MISSED: _missed,
        Matter.DEVICE_ALARM: _alarms,
        Matter.QUOTA: _quotas,
        Matter.BROKER_REFUSALS: _refusals,
        Matter.DOCTOR: _doctor,
        Matter.AUDIT_DAMAGED: _audit_trail,
        Matter.BACKUP_OLD: _backup,
    }
)
"""Where each matter that stands is found; what merely happens is found in the audit trail."""

QUICK = frozenset({Matter.DEVICE_ALARM, Matter.BROKER_REFUSALS})
"""What is looked for at each turn: it costs little, and cannot wait."""
BY_DOCTOR = frozenset({Matter.DOCTOR, Matter.AUDIT_DAMAGED})
"""What only the doctor finds."""
