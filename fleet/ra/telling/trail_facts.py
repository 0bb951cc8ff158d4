"""Finds in the audit trail what people may have to be told of: what happened, each entry looked at once."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from device_agent.wire.identity import Identity
from device_agent.wire.problems import RETRY_ADVICE, ProblemCode, Retry
from fleet.core.matters import Matter
from fleet.core.notification import Fact
from fleet.ports import Transaction
from fleet.store import audit
from fleet.store.audit import MAX_PAGE, AuditQuery, StoredEntry

_NOT_NOW = frozenset({ProblemCode.BUSY, ProblemCode.RATE_LIMITED, ProblemCode.UNAVAILABLE})
_RENEWS = frozenset({"", "renew", "confirm"})
"""Kinds of requests by which a device gets its next certificate; refusals by the core name none."""


_HASHES = frozenset({"digest", "key_hash"})
"""Details that say nothing to people."""


async def entries_so_far(tx: Transaction, _argument: None = None) -> int:
    """Return how many entries there are."""
    return await audit.count_entries(tx)


async def entries_of_interest(tx: Transaction, read: int) -> tuple[tuple[StoredEntry, ...], int]:
    """Return entries that may matter, from number `read` on, and how many entries that covers in all."""
    covered = await audit.count_entries(tx)
    found: list[StoredEntry] = []
    for action in _FACTS:
        page = await audit.search(tx, AuditQuery(action=action, after=read - 1, limit=MAX_PAGE))
        if len(page) == MAX_PAGE:
            covered = min(covered, page[-1].number + 1)
        found += page
    return tuple(sorted((one for one in found if one.number < covered), key=lambda one: one.number)), covered


def facts_of(entries: Sequence[StoredEntry]) -> list[Fact]:
    """Return what entries tell."""
    found = [_FACTS[one.entry.action](one) for one in entries]
    return [fact for fact in found if fact is not None]


def _refused(stored: StoredEntry) -> Fact | None:
    """Return a renewal that was refused for a reason that does not end by itself."""
    entry, details = stored.entry, dict(stored.entry.details)
    is_devices_own = entry.actor.startswith("device:") and entry.domain and entry.device_id
    code = details.get("code", "")
    if not is_devices_own or details.get("request", "") not in _RENEWS or _is_for_now(code):
        return None
    device = Identity(domain=entry.domain, device_id=entry.device_id)
    return Fact(
        matter=Matter.RENEWAL_REFUSED,
        subject=device.name,
        text=f"refused, {code}: {details.get('reason', 'no reason given')}",
        at=entry.at,
        domain=entry.domain,
        device=device,
    )


def _is_for_now(code: str) -> bool:
    known = {each.value: each for each in ProblemCode}.get(code)
    return known is not None and (known in _NOT_NOW or RETRY_ADVICE[known] is Retry.NOW)


def _happened(matter: Matter, named: str, stored: StoredEntry) -> Fact:
    """Return an entry that is a matter of its own, called by one of its details."""
    details = dict(stored.entry.details)
    more = ", ".join(f"{name} {value}" for name, value in details.items() if name not in {named, *_HASHES})
    return Fact(
        matter=matter,
        subject=f"{details.get(named, named)} (audit entry {stored.number})",
        text=f"by {stored.entry.actor}" + (f": {more}" if more else ""),
        at=stored.entry.at,
        domain=stored.entry.domain,
    )


_FACTS: Mapping[str, Callable[[StoredEntry], Fact | None]] = MappingProxyType(
    {
        "request.refused": _refused,
        "rollout.halted": partial(_happened, Matter.ROLLOUT_HALTED, "rollout"),
        "proposal.made": partial(_happened, Matter.PROPOSAL_MADE, "proposal"),
        "operator.readmission-asked": partial(_happened, Matter.READMISSION, "name"),
    }
)
"""What entries of each action tell."""
