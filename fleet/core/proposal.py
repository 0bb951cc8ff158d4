"""Acts on many devices at once: when they need a second person, and what becomes of one that was proposed.

It counts, compares and decides; it does no act, and knows nobody's role.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class ActKind(StrEnum):
    """What is done to devices, in the word of its command; stored by name."""

    REVOKE = "revoke"
    SUSPEND = "suspend"
    RENEW = "renew"
    """Have certificates renewed before their time."""
    ROLLOUT = "rollout"
    POLICY = "policy"
    """Put another access policy in force."""
    OPERATOR = "operator"
    """Add an operator of the role security."""


DELIBERATE = frozenset({ActKind.RENEW, ActKind.ROLLOUT, ActKind.POLICY, ActKind.OPERATOR})
"""Kinds that may need a second person in any case: no emergency waits for one of them."""


class ProposalState(StrEnum):
    """Where a proposal stands; stored by name."""

    OPEN = "open"
    APPROVED = "approved"
    """Somebody else agreed, and it is being done, or must be done again."""
    DONE = "done"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    OUTDATED = "outdated"
    """What it selects is no longer what was shown."""


class ProposalEvent(StrEnum):
    """What happens to a proposal."""

    APPROVE = "approve"
    FINISH = "finish"
    REJECT = "reject"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"
    OUTDATE = "outdate"


_State, _Event = ProposalState, ProposalEvent

TRANSITIONS: Mapping[tuple[ProposalState, ProposalEvent], ProposalState] = MappingProxyType(
    {
        (_State.OPEN, _Event.APPROVE): _State.APPROVED,
        (_State.OPEN, _Event.REJECT): _State.REJECTED,
        (_State.OPEN, _Event.WITHDRAW): _State.WITHDRAWN,
        (_State.OPEN, _Event.EXPIRE): _State.EXPIRED,
        (_State.OPEN, _Event.OUTDATE): _State.OUTDATED,
        # Somebody was cut off over it, or it failed: doing it again has the same result.
        (_State.APPROVED, _Event.APPROVE): _State.APPROVED,
        (_State.APPROVED, _Event.FINISH): _State.DONE,
        (_State.REJECTED, _Event.REJECT): _State.REJECTED,
        (_State.WITHDRAWN, _Event.WITHDRAW): _State.WITHDRAWN,
        (_State.EXPIRED, _Event.EXPIRE): _State.EXPIRED,
    }
)
"""What is not in here is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPersonRule:
    """From when on an act needs a second person; one device never does, unless its kind always does."""

    devices: int = 100
    """More devices than that need one."""
    percent: int = 10
    """A larger part of the devices of the domains that it touches needs one, too, ..."""
    percent_from: int = 10
    """... if it is more than so many devices."""
    always: frozenset[ActKind] = frozenset()
    """Kinds of acts that need one however few devices they are about."""


def why_second(rule: SecondPersonRule, kind: ActKind, *, count: int, total: int) -> str:
    """Return why an act on `count` of `total` devices needs a second person; empty: it needs none."""
    if kind in rule.always:
        return f"{kind} always needs a second operator"
    if count > max(rule.devices, 1):
        return f"{count} devices are more than {rule.devices}"
    if count > max(rule.percent_from, 1) and count * 100 > rule.percent * total:
        return f"{count} of {total} devices are more than {rule.percent} %"
    return ""


def selection_digest(names: Iterable[str]) -> str:
    """Return the hex SHA-256 over the names of what an act is about, in whatever order they come."""
    text = "\n".join(sorted(set(names)))
    return hashlib.sha256(b"fleet-selection-v1\0" + text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How a selection differs from the one that was shown."""

    kept: tuple[str, ...]
    """Shown, and still selected: all that the act may touch."""
    gone: int
    """Shown, and selected no more."""
    new: int
    """Selected, and never shown."""

    def exceeds(self, percent: int) -> bool:
        """Tell whether more than so many of a hundred differ, or nothing is left to act on."""
        if not self.kept:
            return self.gone + self.new > 0
        return (self.gone + self.new) * 100 > percent * (len(self.kept) + self.gone)


def drift_of(shown: Iterable[str], now: Iterable[str]) -> Drift:
    """Compare what a proposal has shown with what its selection names now."""
    before, after = frozenset(shown), frozenset(now)
    return Drift(kept=tuple(sorted(before & after)), gone=len(before - after), new=len(after - before))
