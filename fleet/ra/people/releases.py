"""An operator lets a unit out of quarantine, as it is or to be made anew; its station learns it at a sync."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.station_recall import Fate
from fleet.errors import NotFoundError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.store import audit
from fleet.store.stations import load_station
from fleet.store.unit_releases import Quarantined, ReleaseRecord, find_quarantined, insert_release


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOrder:
    """Which unit, by its hardware id or device id, and what becomes of it."""

    unit: str
    fate: Fate
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Releasing:
    order: ReleaseOrder
    at: datetime


async def release_unit(desk: Desk, order: ReleaseOrder) -> Quarantined:
    """Release a unit, and return which it is and whose.

    Raises:
        NotFoundError: no station has told of such a unit in quarantine.
    """
    return await desk.store.write(_release, _Releasing(order=order, at=desk.clock()))


async def _release(tx: Transaction, releasing: _Releasing) -> Quarantined:
    order = releasing.order
    unit = await find_quarantined(tx, order.unit)
    if unit is None:
        raise NotFoundError(
            f"no station has told of a unit {order.unit} in quarantine",
            hint="fleet station report; a station tells it when it reaches the server",
        )
    release = ReleaseRecord(
        unit=unit,
        fate=order.fate.value,
        actor=order.actor,
        reason=order.reason,
        released_at=releasing.at,
    )
    await insert_release(tx, release)
    station = await load_station(tx, unit.station)
    told = (
        ("name", unit.station),
        ("hardware", unit.hardware),
        ("fate", order.fate.value),
        ("reason", order.reason),
    )
    entry = AuditEntry(
        at=releasing.at,
        action="unit.released",
        actor=order.actor,
        domain=station.domain if station else "",
        details=tuple((name, value) for name, value in told if value),
    )
    await audit.append(tx, entry)
    return unit
