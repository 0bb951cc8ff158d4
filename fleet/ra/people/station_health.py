"""What the doctor knows of factory stations: what was found of late, and certificates that nobody renews."""

from collections import Counter
from datetime import timedelta

from fleet.model import CertificateState, Purpose
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good
from fleet.ra.people.station_report import suspects
from fleet.store import station_journal
from fleet.store.certificates import CertificateQuery, list_certificates
from fleet.store.stations import list_stations

_OF_LATE = timedelta(days=30)
"""What was found before stays in the report, and is no news."""
_SOON = timedelta(days=14)
_SEVERAL = 1000


async def stations(context: Context) -> list[Finding]:
    """No journal, count or certificate of a station that works asks for somebody."""
    open_now = {one.name for one in await context.store.read(list_stations, "") if one.closed_at is None}
    found = [*await _findings(context), *await _certificates(context, open_now)]
    if found or not open_now:
        return found
    return [good("stations", f"nothing is wrong with {len(open_now)} of them")]


async def _findings(context: Context) -> list[Finding]:
    since = context.clock() - _OF_LATE
    recorded = await context.store.read(station_journal.list_findings, "")
    old = {(one.station, one.kind, one.about) for one in recorded if one.found_at < since}
    news = [one for one in await suspects(context) if (one.station, one.kind, one.about) not in old]
    return [
        bad(
            "stations",
            f"{station}: what it did does not agree, {count} times",
            fix=f"fleet station report --findings --station {station}",
        )
        for station, count in sorted(Counter(one.station for one in news).items())
    ]


async def _certificates(context: Context, names: set[str]) -> list[Finding]:
    query = CertificateQuery(purpose=Purpose.STATION, state=CertificateState.ACTIVE, limit=_SEVERAL)
    ends: dict[str, str] = {}
    for record in await context.store.read(list_certificates, query):
        if record.name not in names or record.signed is None:
            continue
        is_soon = record.signed.not_after < context.clock() + _SOON
        ends[record.name] = f"{record.signed.not_after:%Y-%m-%d}" if is_soon else ""
    fix = "at the station: fleet station renew"
    return [
        bad("stations", f"the certificate of {name} ends {end}", fix=f"{fix} {name}")
        for name, end in sorted(ends.items())
        if end
    ]
