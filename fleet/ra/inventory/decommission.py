"""Takes a device out of service for good, and says what proves it: the last word about a device."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.moving import OPEN, MoveEvent, MoveKind
from fleet.errors import FleetError, RefusedError
from fleet.model import CertificateState, CutOff
from fleet.ra.context import Context
from fleet.ra.devices import DeviceView, retire, show
from fleet.ra.inventory.moving import MoveOrder, advance
from fleet.ra.status.broker_lists import give_to_brokers
from fleet.ra.status.revoke import still_open
from fleet.store import audit, moves
from fleet.store.audit import AuditQuery

_LAST_ENTRIES = 10
_ENDINGS = frozenset({"device.retired", "device.moved", "device.changed"})
"""What tells of an end, among the last entries of a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discharge:
    """What a device leaves behind."""

    identity: Identity
    retired_at: datetime
    revoked: tuple[str, ...]
    """Serials of all its certificates that are revoked, in their order."""
    sessions: tuple[CutOff, ...]
    entries: tuple[int, ...]
    """Numbers of the audit entries that tell of its end: `fleet audit prove` proves each."""
    verified: bool
    """No session of it lives, no list admits it, and the revocation lists in force name its certificates."""
    problem: str = ""
    """What keeps it from being verified; run it again."""


async def decommission(context: Context, identity: Identity, *, actor: str, reason: str = "") -> Discharge:
    """Retire a device, revoke all that it has, and look that nothing of it is let in.

    Its records, certificates, story and marks are kept: what it signed can be verified, and nobody else gets
    its id.

    Raises:
        NotFoundError: it is not registered.
        RefusedError: it is being transferred: cancel that, or let it end.
    """
    cut_offs = await _retire(context, identity, actor=actor, reason=reason)
    view = await show(context, identity)
    revoked = _revoked(view)
    problem = await _problem(context, frozenset(revoked))
    assert view.record.retired_at is not None  # noqa: S101 - it was retired above, or before
    return Discharge(
        identity=identity,
        retired_at=view.record.retired_at,
        revoked=revoked,
        sessions=cut_offs,
        entries=await _entries(context, identity),
        verified=not problem,
        problem=problem,
    )


async def _retire(context: Context, identity: Identity, *, actor: str, reason: str) -> tuple[CutOff, ...]:
    """End its move, or else retire it; whoever is retired already stays so."""
    move = await context.store.read(moves.newest_move, identity)
    if move is None or move.state not in OPEN:
        if (await show(context, identity)).record.retired_at is not None:
            return ()
        return (await retire(context, identity, actor=actor, reason=reason)).cut_offs
    if move.kind is MoveKind.TRANSFER:
        raise RefusedError(
            f"{identity.name} is on its way to {move.target.domain}",
            hint=f"fleet move cancel {identity.name}",
        )
    order = MoveOrder(actor=actor, reason=reason)
    return (await advance(context, identity, MoveEvent.SCRAP, order=order)).cut_offs


def _revoked(view: DeviceView) -> tuple[str, ...]:
    return tuple(one.serial for one in view.certificates if one.state is CertificateState.REVOKED)


async def _problem(context: Context, serials: frozenset[str]) -> str:
    try:
        await give_to_brokers(context)
        return await still_open(context, serials)
    except FleetError as error:
        return str(error)


async def _entries(context: Context, identity: Identity) -> tuple[int, ...]:
    query = AuditQuery(domain=identity.domain, device_id=identity.device_id, limit=_LAST_ENTRIES)
    found = await context.store.read(audit.search_newest, query)
    return tuple(each.number for each in found if each.entry.action in _ENDINGS)
