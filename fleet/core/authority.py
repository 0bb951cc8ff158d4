"""The life of a root or an issuing CA: one table, and what each state means for those who rely on it.

It knows no key and no file. A CA that was given up is never taken back; one that only stopped may go on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet.errors import RefusedError
from fleet.model import Purpose


class AuthorityState(StrEnum):
    """Where a CA stands; stored by name."""

    REQUESTED = "requested"
    """Its key is made and its request written; another CA has not signed it yet."""
    WITHDRAWN = "withdrawn"
    """Its certificate is not waited for any more: it never was a CA."""
    STANDBY = "standby"
    """Whole and unused: for a rollover, or for the day on which the main one is lost."""
    ACTIVE = "active"
    """It signs."""
    RETIRING = "retiring"
    """It signs nothing new; what it signed is good until its end."""
    RETIRED = "retired"
    """Nobody needs it any more; its lists go on, for those who verify what it signed."""
    COMPROMISED = "compromised"
    """Its key may be in other hands: nothing that it signed is believed."""


class AuthorityEvent(StrEnum):
    """What happens to a CA."""

    CERTIFIED = "certified"
    """The certificate that was asked for has come."""
    ACTIVATED = "activated"
    STOPPED = "stopped"
    RETIRED = "retired"
    COMPROMISED = "compromised"


class KeyKind(StrEnum):
    """Where the key of a CA is."""

    FILE = "file"
    """In its folder, encrypted."""
    TOKEN = "token"  # noqa: S105 - a device that holds keys, no secret
    """In a PKCS#11 token or HSM, never out of it."""
    ELSEWHERE = "elsewhere"
    """With somebody else, such as the company's own root."""


_State, _Event = AuthorityState, AuthorityEvent

TRANSITIONS: Mapping[tuple[AuthorityState, AuthorityEvent], AuthorityState] = {
    (_State.REQUESTED, _Event.CERTIFIED): _State.STANDBY,
    (_State.REQUESTED, _Event.RETIRED): _State.WITHDRAWN,
    (_State.WITHDRAWN, _Event.RETIRED): _State.WITHDRAWN,
    (_State.STANDBY, _Event.ACTIVATED): _State.ACTIVE,
    (_State.STANDBY, _Event.RETIRED): _State.RETIRED,
    (_State.STANDBY, _Event.COMPROMISED): _State.COMPROMISED,
    (_State.ACTIVE, _Event.ACTIVATED): _State.ACTIVE,
    (_State.ACTIVE, _Event.STOPPED): _State.RETIRING,
    (_State.ACTIVE, _Event.COMPROMISED): _State.COMPROMISED,
    (_State.RETIRING, _Event.ACTIVATED): _State.ACTIVE,
    (_State.RETIRING, _Event.STOPPED): _State.RETIRING,
    (_State.RETIRING, _Event.RETIRED): _State.RETIRED,
    (_State.RETIRING, _Event.COMPROMISED): _State.COMPROMISED,
    (_State.RETIRED, _Event.RETIRED): _State.RETIRED,
    (_State.RETIRED, _Event.COMPROMISED): _State.COMPROMISED,
    (_State.COMPROMISED, _Event.COMPROMISED): _State.COMPROMISED,
}
"""What is not in the table is refused; an order that is given twice changes nothing the second time."""

UNCERTIFIED = frozenset({_State.REQUESTED, _State.WITHDRAWN})
"""Who has no certificate."""
ISSUES = frozenset({_State.ACTIVE})
"""Who may sign a new leaf."""
ADMITTED = frozenset({_State.ACTIVE, _State.RETIRING})
"""Whose leaves connect; as a root: what lies under it is believed."""
LISTED = frozenset({_State.ACTIVE, _State.RETIRING, _State.RETIRED, _State.COMPROMISED})
"""Who has a revocation list of its own: whoever has ever signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityRecord:
    """What the store knows of a root or an issuing CA; its certificate and key stand in its folder."""

    folder: str
    """Below the home's `ca/`: `<realm>` for its first root, `<realm>/<purpose>-<number>` for others."""
    issuer: str
    """Hex subject key identifier; of a request the one that its key would have."""
    realm: str
    """A domain, `bootstrap` or `fleet`."""
    purpose: Purpose
    """Of its leaves; `authority` for a root."""
    state: AuthorityState
    key: KeyKind
    room: int | None = None
    """How many leaves at most it should have at a time; None: as many as there are."""
    added_at: datetime
    changed_at: datetime

    @property
    def is_root(self) -> bool:
        return self.purpose is Purpose.AUTHORITY

    @property
    def domain(self) -> str:
        """The domain whose devices it signs for; empty for all others."""
        return self.realm if self.purpose is Purpose.DEVICE else ""


LABEL_RANDOMNESS = 4
_LONGEST_COMMON_NAME = 64  # RFC 5280 A.1, ub-common-name


def authority_name(fleet: str, rest: str) -> str:
    """Return `<fleet> <rest>`, or the rest alone where that is too long: the organization says it too."""
    full = f"{fleet} {rest}"
    return full if len(full) <= _LONGEST_COMMON_NAME else rest


def issuing_name(record: AuthorityRecord, *, fleet: str) -> str:
    """Return the common name of an issuing CA, as `acme prod device issuing CA 2`."""
    number = record.folder.rpartition("-")[2]
    return authority_name(fleet, f"{record.domain} {record.purpose} issuing CA {number}".lstrip())


def key_label(folder: str, *, fleet: str, randomness: bytes) -> str:
    """Return what a new key of a CA is called in a token, as `acme.prod.device-2.5f0c9a31`.

    It never meets the key of an earlier try that was cut off, nor that of another home.
    """
    return f"{fleet}.{folder.replace('/', '.')}.{randomness.hex()}"


def signer_name(record: AuthorityRecord, kind: str, *, fleet: str) -> str:
    """Return the common name of what speaks for an issuing CA, as `acme prod device ocsp 2`."""
    number = record.folder.rpartition("-")[2]
    return authority_name(fleet, f"{record.domain} {record.purpose} {kind} {number}".lstrip())


def after(record: AuthorityRecord, event: AuthorityEvent) -> AuthorityState:
    """Return where a CA stands after an event.

    Raises:
        RefusedError: that cannot happen to it now.
    """
    found = TRANSITIONS.get((record.state, event))
    if found is None:
        raise RefusedError(
            f"the CA {record.folder} is {record.state}, and cannot be {event}", hint="fleet ca list"
        )
    return found


def in_order(record: AuthorityRecord) -> tuple[str, str, int]:
    """Return where a CA stands in lists: by realm, the root first, then by purpose and number."""
    name = record.folder.partition("/")[2]
    kind, _, number = name.rpartition("-")
    return (record.realm, kind, int(number) if number.isdecimal() else 0)
