"""Holds what relying parties are told now: the revocation lists that were made, and what they miss.

It makes no list and decides nothing: whoever ends, holds or releases a certificate says so here.
"""

import asyncio
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from fleet.core.partition import SERVED, is_served, partition_of
from fleet.ra.kept_answers import KeptAnswers
from fleet.ra.turns import Turns

_NAME = re.compile(r"([0-9a-f]{2,128})(?:-(delta|[1-9][0-9]{0,5}))?", re.ASCII)
_DELTA = "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListName:
    """Which list: an issuing CA, and nothing for all of it, `delta`, or the number of a part."""

    issuer: str
    """Hex subject key identifier."""
    part: str = ""

    @property
    def path(self) -> str:
        """Where it is on the status listener."""
        return f"/crl/{self.issuer}{'-' if self.part else ''}{self.part}.crl"

    @property
    def partition(self) -> int | None:
        return int(self.part) if self.part.isdecimal() else None

    @property
    def delta(self) -> "ListName":
        """The delta list of this issuing CA."""
        return ListName(issuer=self.issuer, part=_DELTA)


def parse_list_name(text: str) -> ListName | None:
    """Return the list that is called so in its address, or None where no leaf can name such a one."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    name = ListName(issuer=match[1], part=match[2] or "")
    return name if name.partition is None or is_served(name.partition) else None


def list_of(issuer: str, serial: str) -> ListName:
    """Return the part that speaks of a certificate."""
    return ListName(issuer=issuer, part=str(partition_of(serial)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCrl:
    """A signed list (RFC 5280 5): its bytes, and until when it may be believed."""

    name: ListName
    der: bytes
    number: int
    made_at: datetime
    this_update: datetime
    next_update: datetime

    def is_fresh(self, now: datetime) -> bool:
        """Not half through its life; one of the future, after the clock was set back, is not fresh either."""
        return self.this_update <= now < self.made_at + (self.next_update - self.made_at) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    crl: PublishedCrl
    change: int
    """The last change that it holds."""
    rests_until: float
    """In the seconds of the event loop: one that takes long to make is not made all the time."""


class CrlBook:
    """The newest lists, with growing numbers only, and what happened since they were made."""

    def __init__(self) -> None:
        self.answers = KeptAnswers()
        self.making = Turns()
        self.wanted = asyncio.Event()
        """Set when the brokers' lists miss something."""
        self.brokers_until: datetime | None = None
        """The nextUpdate of the lists that brokers have."""
        self._held: dict[ListName, _Held] = {}
        self._change = 0
        self._somewhere = 0
        """The last change of which nobody said where."""
        self._in_part: dict[str, int] = {}
        self._compared: tuple[int, int] | None = None

    @property
    def change(self) -> int:
        """How many changes there were so far."""
        return self._change

    @property
    def brokers_miss_something(self) -> bool:
        return self.wanted.is_set()

    def note_change(self) -> None:
        """Something was revoked for cause: any list may miss it, the brokers' too."""
        self.note_superseded()
        self.wanted.set()

    def note_superseded(self, serials: Collection[str] | None = None) -> None:
        """Something changed that only the public lists tell: of these certificates, or who knows which."""
        self._change += 1
        if serials is None:
            self._somewhere = self._change
            self.answers.clear()
            return
        self.answers.drop(serials)
        for serial in serials:
            for count in SERVED:
                self._in_part[str(partition_of(serial, partitions=count))] = self._change

    def compare(self, recorded: int) -> None:
        """Catch what nobody said here: something changed on record, and nothing was noted for a while."""
        if self._compared is not None:
            recorded_before, change_before = self._compared
            if recorded != recorded_before and self._change == change_before:
                self.note_change()
        self._compared = recorded, self._change

    def put(self, crl: PublishedCrl, *, change: int, rests_until: float) -> None:
        """Take a list into force that was begun after this `change`, unless a newer one is."""
        known = self._held.get(crl.name)
        if known is None or known.crl.number < crl.number:
            self._held[crl.name] = _Held(crl=crl, change=change, rests_until=rests_until)

    def find(self, issuer: str) -> PublishedCrl | None:
        """Return the complete list of an issuing CA, by the hex of its subject key identifier."""
        return self.newest(ListName(issuer=issuer))

    def newest(self, name: ListName) -> PublishedCrl | None:
        """Return a list as it was made last."""
        held = self._held.get(name)
        return None if held is None else held.crl

    def is_whole(self, name: ListName) -> bool:
        """Tell whether a list that was made holds all that happened since."""
        held = self._held.get(name)
        if held is None:
            return False
        if name.partition is None:
            return held.change >= self._change
        return held.change >= max(self._somewhere, self._in_part.get(name.part, 0))

    def rests_until(self, name: ListName) -> float:
        """Return when a list may be made again because something happened, in the event loop's seconds."""
        held = self._held.get(name)
        return 0.0 if held is None else held.rests_until

    def all(self) -> tuple[PublishedCrl, ...]:
        """Return the complete lists."""
        return tuple(held.crl for name, held in self._held.items() if not name.part)
