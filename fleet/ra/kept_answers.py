"""Keeps OCSP answers that were signed, so that the same question is answered without a signature (RFC 5019).

By the bytes of the question; whatever changes drops it at once. What it keeps is bounded: what was asked for
longest ago goes first.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

MOST = 20_000
"""Answers kept, a kilobyte each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response as it goes out; the times are there where it is signed."""

    der: bytes
    this_update: datetime | None = None
    next_update: datetime | None = None
    tag: str = ""
    """Names these bytes, for caches (RFC 5019 6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Until when an answer serves, and of which certificates it speaks."""

    until: datetime
    serials: tuple[str, ...]


class KeptAnswers:
    """Answers by question."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, tuple[Answer, Keeping]] = OrderedDict()
        self._by_serial: dict[str, set[bytes]] = {}
        self._changes = 0

    @property
    def changes(self) -> int:
        """How often something was dropped: who reads a standing notes it before, to keep nothing stale."""
        return self._changes

    def find(self, question: bytes, *, now: datetime) -> Answer | None:
        """Return the answer to the same question, as long as it serves."""
        found = self._kept.get(question)
        if found is None:
            return None
        answer, keeping = found
        if answer.this_update is None or not answer.this_update <= now < keeping.until:
            self._forget(question)
            return None
        self._kept.move_to_end(question)
        return answer

    def keep(self, question: bytes, answer: Answer, *, keeping: Keeping, changes: int) -> None:
        """Keep an answer, unless something changed after `changes`."""
        if changes != self._changes:
            return
        self._forget(question)
        self._kept[question] = (answer, keeping)
        for serial in keeping.serials:
            self._by_serial.setdefault(serial, set()).add(question)
        if len(self._kept) > self._most:
            self._forget(next(iter(self._kept)))

    def drop(self, serials: Collection[str]) -> None:
        """Forget what was answered about certificates."""
        self._changes += 1
        for serial in serials:
            for question in self._by_serial.get(serial, set()).copy():
                self._forget(question)

    def clear(self) -> None:
        """Forget everything."""
        self._changes += 1
        self._kept.clear()
        self._by_serial.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def _forget(self, question: bytes) -> None:
        found = self._kept.pop(question, None)
        for serial in () if found is None else found[1].serials:
            questions = self._by_serial.get(serial, set())
            questions.discard(question)
            if not questions:
                self._by_serial.pop(serial, None)
