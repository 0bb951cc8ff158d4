"""A device as a query sees it, in memory; the same that `search` asks the database."""

from device_agent.wire.identity import Identity
from fleet.core.query import View
from fleet.model import Standing
from fleet.ports import Row, Transaction
from fleet.store import columns, times
from fleet.store.marks import marks_of
from fleet.store.search import ENROLLED, EXPIRES, PROFILE, STANDING

_SHOWN = (
    f"{STANDING}, COALESCE(d.batch, ''), {PROFILE}, d.hardware, {EXPIRES}, {ENROLLED}, d.registered_at,"
    " d.last_seen_at, COALESCE(c.issuer, '')"
)


async def view_of(tx: Transaction, identity: Identity) -> View | None:
    """Return a device as queries see it, or None."""
    row = await tx.fetch_one(
        f"SELECT {_SHOWN} FROM devices d LEFT JOIN certificates c ON c.serial = d.current_serial"
        " WHERE d.domain = ? AND d.device_id = ?",
        (identity.domain, identity.device_id),
    )
    return None if row is None else await _view(tx, identity, row)


async def _view(tx: Transaction, identity: Identity, row: Row) -> View:
    marks = await marks_of(tx, identity)
    return View(
        domain=identity.domain,
        device_id=identity.device_id,
        standing=Standing(columns.text(row[0])),
        batch=columns.text(row[1]),
        profile=columns.text(row[2]),
        hardware=columns.text(row[3]),
        model=marks.model,
        owner=marks.owner,
        version=marks.version,
        groups=frozenset(marks.groups),
        tags=frozenset(marks.tags),
        issuers=await _issuers(tx, columns.text(row[8])),
        stations=await _stations(tx, identity),
        attributes=dict(marks.attributes),
        expires=times.optional_moment(row[4]),
        enrolled=times.optional_moment(row[5]),
        registered=times.moment(row[6]),
        seen=times.optional_moment(row[7]),
    )


async def _issuers(tx: Transaction, issuer: str) -> frozenset[str]:
    """Return the names of a CA: its key identifier, and its folder, if it is one of ours."""
    if not issuer:
        return frozenset()
    rows = await tx.fetch_all("SELECT folder FROM authorities WHERE issuer = ?", (issuer,))
    return frozenset({issuer, *(columns.text(folder) for (folder,) in rows)})


async def _stations(tx: Transaction, identity: Identity) -> frozenset[str]:
    rows = await tx.fetch_all(
        "SELECT station FROM station_units WHERE domain = ? AND device_id = ?",
        (identity.domain, identity.device_id),
    )
    return frozenset(columns.text(station) for (station,) in rows)
