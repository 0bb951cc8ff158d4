"""Holds a station to its rules, whatever it says of itself: batch, serial numbers, shift, rate, quota."""

from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.ports import Transaction
from fleet.ra.requests.applicants import refused
from fleet.store import stations
from fleet.store.claims import load_batch
from fleet.store.devices import load_record
from fleet.store.stations import StationRecord


async def require_within_rules(
    tx: Transaction, station: StationRecord, identity: Identity, *, at: datetime
) -> None:
    """Refuse a unit that a station may not enroll now; runs in the commit that enrolls it.

    Raises:
        RefusedError: `rate-limited` where it only has to wait a minute, else `not-allowed`.
    """
    batch = await require_own_batch(tx, station, identity)
    if not station.rules.is_working(at):
        raise _no(f"station {station.name} is outside of its shifts: {_shifts(station)}")
    await _require_quota(tx, station, identity, batch)
    rate = station.rules.rate_per_minute
    if rate is not None and await stations.count_rate(tx, station.name, at=at) > rate:
        raise refused(ProblemCode.RATE_LIMITED, f"station {station.name} may enroll {rate} units a minute")


async def require_own_batch(tx: Transaction, station: StationRecord, identity: Identity) -> str:
    """Return the batch of a registered unit; raises `RefusedError` where it is not for this station."""
    record = await load_record(tx, identity)
    if record is None or record.batch not in station.batches:
        raise _no(f"{identity.name} is in no batch of station {station.name}")
    if fault := station.rules.fault_of(record.batch, identity.device_id):
        raise _no(f"station {station.name}: {fault}")
    batch = await load_batch(tx, identity.domain, record.batch)
    if batch is None or batch.closed_at is not None:
        raise _no(f"batch {record.batch} of {identity.domain} was closed")
    return record.batch


async def _require_quota(tx: Transaction, station: StationRecord, identity: Identity, batch: str) -> None:
    rule = station.rules.rule(batch)
    if rule is None or rule.quota is None or await stations.is_unit_of(tx, station.name, identity):
        return
    used = (await stations.used_of(tx, station.name)).get(batch, 0)
    if used >= rule.quota:
        raise _no(f"station {station.name} has used its quota of batch {batch}: {used} of {rule.quota}")


def _shifts(station: StationRecord) -> str:
    return "; ".join(map(str, station.rules.shifts))


def _no(message: str) -> Exception:
    return refused(ProblemCode.NOT_ALLOWED, message)
