"""`fleet forecast`: what ends when, and which devices an outage of the CAs would cut off."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.core.authority import ADMITTED
from fleet.core.forecast import HORIZONS, DarkDay, Ends, Line, Outage, Week, dark_days, lines, weeks
from fleet.core.query import Condition
from fleet.errors import NotFoundError
from fleet.ports import Transaction
from fleet.ra.authority.authority_views import list_views
from fleet.ra.context import Context
from fleet.store import forecast as store
from fleet.store.forecast import Ending, EndsQuery
from fleet.store.inventory import DeviceQuery, count_devices

_LATE = timedelta(days=7)
_CA_ENDS = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What an outage would cost."""

    outage: Outage
    days: tuple[DarkDay, ...]
    first: tuple[Ending, ...]
    """Devices that go dark, the first of them first, as many as were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is to come, as of one moment."""

    at: datetime
    lines: tuple[Line, ...]
    attention: tuple[str, ...]
    """What somebody has to look at now, each in a sentence."""
    weeks: tuple[Week, ...] = ()
    cut: Cut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: an outage that begins now, or None; `most` devices are named, `weeks` told one by one.

    `among` are the devices that it is about; with it, nothing but devices is.
    """

    ca_down: timedelta | None = None
    among: Condition | None = None
    weeks: int = 0
    most: int = 100


async def forecast(context: Context, question: Question) -> Forecast:
    """Return what ends within the horizons, and what an outage would cost.

    Raises:
        NotFoundError: no device fits the query.
    """
    now = context.clock()
    if question.among is not None:
        await _require_some(context, question.among, now)
    until = now + max(HORIZONS[-1], timedelta(weeks=question.weeks))
    found = await _found(context, question, now, until)
    told = lines([one for one in found if one.day <= (now + HORIZONS[-1]).date()], now=now)
    cut = None if question.ca_down is None else await _cut(context, question, now, question.ca_down)
    planned = () if question.among else await context.store.read(store.planned_hours, until)
    return Forecast(
        at=now,
        lines=told,
        attention=tuple(_attention(told, cut)),
        weeks=weeks(found, planned=planned, now=now, count=question.weeks),
        cut=cut,
    )


async def _require_some(context: Context, among: Condition, now: datetime) -> None:
    """Refuse an empty selection: that nothing ends of nothing would be an all-clear."""
    if not await context.store.search(count_devices, DeviceQuery(condition=among, now=now)):
        raise NotFoundError("no device fits the query", hint="fleet device list --query shows what does")


async def _found(context: Context, question: Question, now: datetime, until: datetime) -> list[Ends]:
    query = EndsQuery(before=until, now=now, among=question.among)
    if question.among is not None:
        return list(await context.store.search(store.device_ends, query))
    devices = await context.store.read(store.device_ends, query)
    return [*devices, *await context.store.read(store.own_ends, until), *await _authorities(context, until)]


async def _authorities(context: Context, until: datetime) -> list[Ends]:
    views = [view for view in await list_views(context) if view.record.state in ADMITTED]
    found = [view.certificate.not_valid_after_utc for view in views if view.certificate is not None]
    return [Ends(kind="CA", day=end.date(), count=1) for end in found if end < until]


async def _cut(context: Context, question: Question, now: datetime, length: timedelta) -> Cut:
    outage = Outage(begins=now, ends=now + length, grace=context.config.policy.grace)

    def ending(before: datetime) -> EndsQuery:
        return EndsQuery(before=before, now=now, among=question.among, limit=question.most)

    async def read(tx: Transaction, _argument: None) -> Cut:
        dark = await store.device_ends(tx, ending(outage.dark_before))
        lost = await store.device_ends(tx, ending(outage.lost_before))
        named = await store.first_to_end(tx, ending(outage.dark_before))
        return Cut(outage=outage, days=dark_days(outage, dark=dark, lost=lost), first=named)

    return await context.store.read(read, None)


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
