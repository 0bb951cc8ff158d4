"""What acts about factory stations did, to be done again from their audit entries.

Leases and line operators that came after the backup cannot come back: the trail tells neither certificates
nor verifiers.
"""

from collections.abc import Mapping
from dataclasses import replace

from fleet.core.station_rules import RuleTexts, StationRules
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.store import claims, leases, line_operators, station_journal, stations


async def add_station(tx: Transaction, entry: AuditEntry) -> None:
    """Bring a station back, with its batches and rules."""
    details = dict(entry.details)
    await _open_batches(tx, entry)
    record = stations.StationRecord(
        name=details["name"], domain=entry.domain, rules=_rules(details), added_at=entry.at
    )
    await stations.insert_station(tx, record)


async def change_station(tx: Transaction, entry: AuditEntry) -> None:
    """Bring back what a station may do."""
    details = dict(entry.details)
    known = await stations.load_station(tx, details["name"])
    if known is not None:
        await _open_batches(tx, entry)
        await stations.save_rules(tx, replace(known, rules=_rules(details)))


async def close_station(tx: Transaction, entry: AuditEntry) -> None:
    """Close a station again."""
    name = dict(entry.details)["name"]
    await stations.close_station(tx, name, at=entry.at)
    await leases.close_leases_of(tx, name, at=entry.at)


async def begin_journal(tx: Transaction, entry: AuditEntry) -> None:
    """Take no more of a journal that an operator ended."""
    await station_journal.begin_journal(tx, dict(entry.details)["name"])


async def close_lease(tx: Transaction, entry: AuditEntry) -> None:
    """Close a lease again."""
    await leases.close_lease(tx, dict(entry.details)["lease"], at=entry.at)


async def remove_line_operator(tx: Transaction, entry: AuditEntry) -> None:
    """Let somebody work at a station no more."""
    details = dict(entry.details)
    gone = line_operators.LineOperatorRecord(
        station=details["name"],
        name=details["operator"],
        verifier="",
        added_at=entry.at,
        removed_at=entry.at,
    )
    await line_operators.end_line_operator(tx, gone)


async def _open_batches(tx: Transaction, entry: AuditEntry) -> None:
    for name in _listed(dict(entry.details), "batches"):
        if await claims.load_batch(tx, entry.domain, name) is None:
            await claims.insert_batch(tx, claims.Batch(domain=entry.domain, name=name, created_at=entry.at))


def _listed(details: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(one for one in details.get(name, "").split(", ") if one)


def _rules(details: Mapping[str, str]) -> StationRules:
    """Return a station's rules as its entry tells them; a trail of earlier versions tells its batches."""
    return RuleTexts(
        batches=_listed(details, "batches"),
        quotas=_listed(details, "quotas"),
        serials=_listed(details, "serials"),
        shifts=tuple(one for one in details.get("shifts", "").split("; ") if one),
        rate_per_minute=int(details["rate"]) if "rate" in details else None,
    ).read()
