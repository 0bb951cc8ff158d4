"""Has lineages renewed before their time, all of an issuing CA or some, spread so that nobody is flooded.

Each device is told by its retained notice, and moves at a moment of its own. What was told once is told no
second time, so that whoever is cut off begins again and goes on where it stood.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity
from fleet.core.serial import jitter_of
from fleet.core.windows import Window
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.noticing import post_soon
from fleet.store import audit
from fleet.store.notices import DueQuery, EarlyRenewal, due_among, make_due, not_due_yet, want_notice

_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Haste:
    """Which CA's lineages move, from when, and within what time."""

    issuer: str
    begins: datetime
    within: timedelta
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HasteOfSome:
    """Which devices move, from when, and within what time."""

    identities: tuple[Identity, ...]
    begins: datetime
    within: timedelta
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    haste: Haste
    devices: tuple[tuple[Identity, str], ...]


async def hasten(context: Context, haste: Haste) -> int:
    """Make every lineage of a CA due; return how many were not yet.

    Raises:
        StoreError: some are due, and the rest when this is ordered again.
    """
    hastened = 0
    while devices := await context.store.read(not_due_yet, DueQuery(issuer=haste.issuer)):
        await context.store.write(_make_due, _Page(haste=haste, devices=devices))
        hastened += len(devices)
    await post_soon(context)
    return hastened


async def hasten_some(context: Context, haste: HasteOfSome) -> int:
    """Make what some devices have due; return how many were not yet.

    Raises:
        StoreError: some are due, and the rest when this is ordered again.
    """
    hastened = 0
    for start in range(0, len(haste.identities), _AT_ONCE):
        part = replace(haste, identities=haste.identities[start : start + _AT_ONCE])
        hastened += await context.store.write(_make_some_due, part)
    await post_soon(context)
    return hastened


def moment_of(serial: str, haste: Haste) -> datetime:
    """Return when a certificate is to be renewed: spread over the time by its own random bits."""
    span = Window(opens=haste.begins, closes=haste.begins + haste.within)
    return span.at(jitter_of(serial)).replace(microsecond=0)


async def _make_some_due(tx: Transaction, haste: HasteOfSome) -> int:
    devices = await due_among(tx, haste.identities)
    # No CA was given up: the renewals are of no issuer.
    whole = Haste(issuer="", begins=haste.begins, within=haste.within, actor=haste.actor)
    if devices:
        await _make_due(tx, _Page(haste=whole, devices=devices))
    return len(devices)


async def _make_due(tx: Transaction, page: _Page) -> None:
    haste = page.haste
    renewals = [
        EarlyRenewal(serial=serial, renew_after=moment_of(serial, haste), issuer=haste.issuer)
        for _, serial in page.devices
    ]
    await make_due(tx, renewals)
    for identity, _ in page.devices:
        await want_notice(tx, identity)
    by_issuer = (("issuer", haste.issuer),) if haste.issuer else ()
    details = (*by_issuer, ("devices", str(len(renewals))))
    await audit.append(
        tx, AuditEntry(at=haste.begins, action="renewal.hastened", actor=haste.actor, details=details)
    )
