"""What the journals of stations say, counted, and held against the server's own records."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.ports import Row, Transaction, Value
from fleet.store import columns, times


class By(StrEnum):
    """What a report counts by."""

    STATION = "station"
    BATCH = "batch"
    OPERATOR = "operator"
    REASON = "reason"
    ATTEMPT = "attempt"


_COLUMN: Mapping[By, str] = {
    By.STATION: "a.station",
    By.BATCH: "CASE WHEN a.batch = '' THEN '(first)' ELSE a.batch END",
    By.OPERATOR: "CASE WHEN a.operator = '' THEN '(nobody)' ELSE a.operator END",
    By.REASON: (
        "CASE WHEN a.outcome = 'passed' THEN '(passed)' WHEN a.cause = '' THEN '(other)' ELSE a.cause END"
    ),
    By.ATTEMPT: "a.attempt",
}
_UNIT = "a.station || ':' || a.hardware"
_YIELD = """
SELECT {column} AS name, COUNT(*), COUNT(DISTINCT {unit}),
    COUNT(DISTINCT CASE WHEN EXISTS (
        SELECT 1 FROM station_journal i WHERE i.station = a.station AND i.hardware = a.hardware
            AND i.kind IN ('issued', 'made')) THEN {unit} END),
    COUNT(DISTINCT CASE WHEN a.outcome = 'passed' THEN {unit} END),
    COUNT(DISTINCT CASE WHEN a.outcome = 'passed' AND a.attempt = 1 THEN {unit} END),
    SUM(CASE WHEN a.outcome = 'failed' THEN 1 ELSE 0 END),
    SUM(CASE WHEN a.outcome = 'quarantined' THEN 1 ELSE 0 END),
    COUNT(DISTINCT CASE WHEN d.last_seen_at IS NOT NULL THEN {unit} END)
FROM station_journal a JOIN stations s ON s.name = a.station
LEFT JOIN devices d ON d.domain = s.domain AND d.device_id = a.device_id
WHERE a.kind = 'attempt' AND ? IN ('', a.station) AND ? IN ('', a.batch)
GROUP BY {column} ORDER BY {column}
"""
_MADE = "FROM station_journal WHERE kind IN ('issued', 'made')"
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """What a report is about; what is empty does not restrict."""

    by: By = By.STATION
    station: str = ""
    batch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """One line of a report. Visits are counted one by one, units once."""

    name: str
    visits: int
    units: int
    issued: int
    passed: int
    first_pass: int
    """Of them, those that passed at their first visit."""
    failed: int
    """Visits that failed."""
    quarantined: int
    online: int
    """Units that the broker has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchQuery:
    """Whose records are compared; empty is everybody's."""

    station: str
    settled: datetime
    """What was made after this may still be on its way in a journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Something that the records do not agree about."""

    station: str
    kind: str
    about: str
    detail: str


async def yields(tx: Transaction, query: ReportQuery) -> tuple[Yield, ...]:
    """Return the counts of what stations handed in, by what the query says."""
    sql = _YIELD.format(column=_COLUMN[query.by], unit=_UNIT)
    return tuple(_yield(row) for row in await tx.fetch_all(sql, (query.station, query.batch)))


async def mismatches(tx: Transaction, query: MismatchQuery) -> tuple[Mismatch, ...]:
    """Return what does not agree between journals, or with the records, of a station or of all."""
    found: list[Mismatch] = []
    for kind, text in _CHECKS.items():
        sql = text.replace(":settled", f"'{times.text(query.settled)}'")
        rows = await tx.fetch_all(f"{sql} LIMIT {_MOST}", (query.station,) * sql.count("?"))
        found += [
            Mismatch(station=columns.text(of), kind=kind, about=_text(about), detail=_text(detail))
            for of, about, detail in rows
        ]
    return tuple(found)


_CHECKS: Mapping[str, str] = {
    "over-quota": (
        "SELECT station, batch, used || ' units of ' || quota FROM station_batches"
        " WHERE used > quota AND ? IN ('', station) ORDER BY station, batch"
    ),
    "reused-hardware": (
        "SELECT MIN(station), hardware, 'made as ' || MIN(device_id) || ' and ' || MAX(device_id)"
        f" {_MADE} AND hardware <> '' GROUP BY hardware HAVING COUNT(DISTINCT device_id) > 1"
        " AND ('' = ? OR MAX(CASE WHEN station = ? THEN 1 ELSE 0 END) = 1) ORDER BY hardware"
    ),
    "clone": (
        "SELECT MIN(station), device_id, 'made in ' || MIN(hardware) || ' and ' || MAX(hardware)"
        f" {_MADE} AND device_id <> '' GROUP BY device_id HAVING COUNT(DISTINCT hardware) > 1"
        " AND ('' = ? OR MAX(CASE WHEN station = ? THEN 1 ELSE 0 END) = 1) ORDER BY device_id"
    ),
    "clone-online": (
        "SELECT u.station, u.device_id, 'its certificates were used from two places'"
        " FROM station_units u JOIN devices d ON d.domain = u.domain AND d.device_id = u.device_id"
        " WHERE d.alarm > 0 AND ? IN ('', u.station) ORDER BY u.station, u.device_id"
    ),
    "duplicate": (
        "SELECT MIN(station), serial, 'told ' || COUNT(*) || ' times'"
        f" {_MADE} AND serial <> '' GROUP BY serial HAVING COUNT(*) > 1"
        " AND ('' = ? OR MAX(CASE WHEN station = ? THEN 1 ELSE 0 END) = 1) ORDER BY serial"
    ),
    "unknown": (
        "SELECT j.station, j.serial, 'in the journal, and the server made no such certificate for it'"
        " FROM station_journal j WHERE j.kind = 'issued' AND ? IN ('', j.station) AND NOT EXISTS ("
        "SELECT 1 FROM certificates c JOIN codes k ON k.code_id = c.code_id WHERE c.serial = j.serial"
        " AND k.kind = 'station' AND k.source = j.station) ORDER BY j.station, j.serial"
    ),
    "missing": (
        "SELECT u.station, u.serial, u.device_id || ' was made, and the journal does not tell of it'"
        " FROM station_units u JOIN stations s ON s.name = u.station"
        " WHERE s.synced_at > u.reported_at AND u.reported_at < :settled AND u.serial <> ''"
        " AND ? IN ('', u.station) AND NOT EXISTS ("
        "SELECT 1 FROM station_journal j WHERE j.serial = u.serial AND j.station = u.station)"
        " ORDER BY u.station, u.serial"
    ),
}
"""Each gives station, what it is about, and a sentence."""


def _yield(row: Row) -> Yield:
    name, *counts = row
    visits, units, issued, passed, first_pass, failed, quarantined, online = map(columns.number, counts)
    return Yield(
        name=_text(name),
        visits=visits,
        units=units,
        issued=issued,
        passed=passed,
        first_pass=first_pass,
        failed=failed,
        quarantined=quarantined,
        online=online,
    )


def _text(value: Value) -> str:
    return value if isinstance(value, str) else str(columns.number(value))
