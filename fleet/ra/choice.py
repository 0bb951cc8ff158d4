"""Chooses who signs for a device: an issuing CA of its domain that is active now, and has room.

Asked inside the unit of work that records the intent, so that a CA that stopped signs nothing from that
commit on. The same records give the same choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.authority import ISSUES
from fleet.ports import Transaction
from fleet.store.authorities import LeavesQuery, leaves_of, state_of
from fleet.store.leases import is_in_force


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerName:
    """Who would sign: the issuing CA by its hex subject key identifier, and the anchor above it."""

    issuer: str
    anchor: str


async def choose_issuer(
    tx: Transaction, candidates: Sequence[IssuerName], *, now: datetime, chosen: str = ""
) -> IssuerName | None:
    """Return the first active candidate with room; where all are full, the one least beyond its room.

    `chosen` is the CA that somebody wants for this very device: it comes first. A full CA is no reason to
    turn a device away: room keeps lists short, and the doctor tells of it.
    """
    fullest: list[tuple[float, IssuerName]] = []
    for candidate in sorted(candidates, key=lambda one: one.issuer != chosen):
        found = await state_of(tx, candidate.issuer)
        if found is None or found[0] not in ISSUES:
            continue
        room = found[1]
        if room is None:
            return candidate
        leaves = await leaves_of(tx, LeavesQuery(issuer=candidate.issuer, now=now))
        if leaves < room:
            return candidate
        fullest.append((leaves / room, candidate))
    return min(fullest, key=lambda one: one[0])[1] if fullest else None


async def may_issue(tx: Transaction, issuer: str) -> bool:
    """Return whether what a CA has just signed may still be handed out; a station's signs under a lease."""
    found = await state_of(tx, issuer)
    return await is_in_force(tx, issuer) if found is None else found[0] in ISSUES
