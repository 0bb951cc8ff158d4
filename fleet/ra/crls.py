"""Holds the certificate revocation list that each issuing CA has in force, ready to be served."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Missing(Enum):
    """The two kinds of lists."""

    PUBLIC = "public"
    FOR_BROKERS = "for brokers"
    """What was revoked for cause alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCrl:
    """A signed list (RFC 5280 5): its bytes, and until when it may be believed."""

    issuer: str
    der: bytes
    number: int
    this_update: datetime
    next_update: datetime


class CrlBook:
    """The newest list of each issuing CA; lists come in with growing numbers only."""

    def __init__(self) -> None:
        self._published: dict[str, PublishedCrl] = {}
        self._missing: set[Missing] = set()

    def note_change(self) -> None:
        """Something was revoked for cause: every list misses it."""
        self._missing |= set(Missing)

    def note_superseded(self) -> None:
        """Something ended that only the public lists name."""
        self._missing.add(Missing.PUBLIC)

    def begin(self, made: Missing) -> None:
        """Lists of this kind are made from what stands now; what ends from here on is missing again."""
        self._missing.discard(made)

    @property
    def is_behind(self) -> bool:
        """Whether any list misses something."""
        return bool(self._missing)

    @property
    def missing(self) -> frozenset[Missing]:
        """Which lists miss something that ended since they were made."""
        return frozenset(self._missing)

    def put(self, crl: PublishedCrl) -> None:
        """Take a list into force, unless a newer one is."""
        known = self._published.get(crl.issuer)
        if known is None or known.number < crl.number:
            self._published[crl.issuer] = crl

    def find(self, issuer: str) -> PublishedCrl | None:
        """Return the list of an issuing CA, by the hex of its subject key identifier."""
        return self._published.get(issuer)

    def all(self) -> tuple[PublishedCrl, ...]:
        """Return all lists in force."""
        return tuple(self._published.values())
