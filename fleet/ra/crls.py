"""Holds the certificate revocation list that each issuing CA has in force, ready to be served."""

from dataclasses import dataclass
from datetime import datetime


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
        self._changes = 0
        self._published_changes = 0

    def note_change(self) -> None:
        """Something ended that the lists in force may not hold yet."""
        self._changes += 1

    def begin(self) -> int:
        """Return what to hand to `finish` when lists made from now on are in force."""
        return self._changes

    def finish(self, begun: int) -> None:
        """The lists in force hold all that had ended at `begin`."""
        self._published_changes = max(self._published_changes, begun)

    @property
    def is_behind(self) -> bool:
        """Whether something ended since the lists in force were made."""
        return self._changes > self._published_changes

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
