"""`fleet forecast`: what ends when, and which devices an outage of the CAs would cut off."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleet.core.authority import ADMITTED
from fleet.core.forecast import HORIZONS, DarkDay, Ends, Line, Outage, dark_days, lines
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.authority.authority_views import list_views
from fleet.ra.context import Context
from fleet.store import forecast as store
from fleet.store.certificates import CertificateQuery, CertificateRecord, expiring

_LATE = timedelta(days=7)
_CA_ENDS = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What an outage would cost."""

    outage: Outage
    days: tuple[DarkDay, ...]
    first: tuple[CertificateRecord, ...]
    """Devices that go dark, the first of them first, as many as were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is to come, as of one moment."""

    at: datetime
    lines: tuple[Line, ...]
    attention: tuple[str, ...]
    """What somebody has to look at now, each in a sentence."""
    cut: Cut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: an outage that begins now, or None; `most` devices are named."""

    ca_down: timedelta | None = None
    most: int = 100


async def forecast(context: Context, question: Question) -> Forecast:
    """Return what ends within the horizons, and what an outage would cost."""
    now = context.clock()
    found = [*await context.store.read(store.ends, now + HORIZONS[-1]), *await _authorities(context)]
    told = lines(found, now=now)
    cut = None if question.ca_down is None else await _cut(context, question, now, question.ca_down)
    return Forecast(at=now, lines=told, attention=tuple(_attention(told, cut)), cut=cut)


async def _authorities(context: Context) -> list[Ends]:
    ending = context.clock() + HORIZONS[-1]
    views = [view for view in await list_views(context) if view.record.state in ADMITTED]
    found = [view.certificate.not_valid_after_utc for view in views if view.certificate is not None]
    return [Ends(kind="CA", day=end.date(), count=1) for end in found if end < ending]


async def _cut(context: Context, question: Question, now: datetime, length: timedelta) -> Cut:
    outage = Outage(begins=now, ends=now + length, grace=context.config.policy.grace)

    async def read(tx: Transaction, first: CertificateQuery) -> Cut:
        dark = await store.device_ends(tx, outage.dark_before)
        lost = await store.device_ends(tx, outage.lost_before)
        named = await expiring(tx, replace(first, purpose=Purpose.DEVICE))
        return Cut(outage=outage, days=dark_days(outage, dark=dark, lost=lost), first=named)

    return await context.store.read(
        read, CertificateQuery(ends_before=outage.dark_before, limit=question.most)
    )


def _attention(told: tuple[Line, ...], cut: Cut | None) -> list[str]:
    week, quarter = HORIZONS.index(_LATE), HORIZONS.index(_CA_ENDS)
    found = [
        f"{line.within[week]} {line.kind}: the end is within 7 days, so their renewal is late"
        for line in told
        if line.within[week] and line.kind != "CA"
    ]
    found += [f"{line.within[quarter]} CAs end within 90 days" for line in told if line.kind == "CA"]
    if cut is not None and cut.days:
        dark, lost = sum(day.dark for day in cut.days), sum(day.lost for day in cut.days)
        found.append(
            f"{dark} devices would go dark before {cut.outage.ends:%Y-%m-%d}, {lost} of them for good"
        )
    return found
