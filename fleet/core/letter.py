"""What a notification says: as a text for people, and as a CloudEvent for programs. Pure.

It is made of names, times and reasons alone: no key, code or certificate is at hand here. Everything from
outside is one line of printable signs, so that nothing in it becomes a header, or a line of its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from device_agent.wire.fields import time_text
from fleet.core.matters import MATTERS, Matter, Severity, event_type
from fleet.core.notification import Change, line

MOST_LINES = 100
"""Subjects that a message names; the others are counted."""
CLOUD_EVENTS = "application/cloudevents+json"
"""CloudEvents 1.0, JSON event format, structured mode."""

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One subject of a notification, and what became of it."""

    change: Change
    subject: str
    text: str
    severity: Severity
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A notification as every receiver gets it; the same at each attempt, so that its id names one thing."""

    id: str
    """32 hex digits: by it a receiver knows what it has already."""
    number: int
    """By which people acknowledge it."""
    fleet: str
    rule: str
    matter: Matter | None
    """None: a test."""
    severity: Severity
    at: datetime
    items: tuple[Item, ...]
    """The first of them."""
    count: int
    """How many there are."""
    audience: str = ""
    """The owner whose devices these are; empty: everybody's."""

    @property
    def is_over(self) -> bool:
        """Tell whether it is an all-clear."""
        return bool(self.items) and all(each.change is Change.CLEARS for each in self.items)

    @property
    def title(self) -> str:
        """One line of printable ASCII or letters, for a subject line."""
        if self.matter is None:
            return line(f"[{self.fleet}] test: a notification")
        word = "over" if self.is_over else self.severity.word
        what = MATTERS[self.matter].text
        counted = f" ({self.count})" if self.count > 1 else f": {self.items[0].subject}" if self.items else ""
        return line(f"[{self.fleet}] {word}: {what}{counted}")

    def text(self) -> str:
        """Return it for people, in lines that end with a line feed."""
        lines = [self.title, ""]
        for change in Change:
            if of_change := [each for each in self.items if each.change is change]:
                lines += [f"{_HEADINGS[change]}:", *map(_bullet, of_change), ""]
        if self.count > len(self.items):
            lines += [f"... and {self.count - len(self.items)} more: fleet notice show {self.number}", ""]
        fix = "" if self.matter is None or self.is_over else MATTERS[self.matter].fix
        if fix:
            lines.append(f"What to do: {fix}")
        if not self.is_over and self.matter is not None:
            lines.append(f"Seen it: fleet notice ack {self.number}")
        lines.append(f"Notification {self.number} of the fleet {self.fleet}, by the rule {self.rule}.")
        return "\n".join(line(each) for each in lines) + "\n"

    def cloud_event(self) -> bytes:
        """Return it as a CloudEvent 1.0 in structured JSON."""
        return json.dumps(self._event(), ensure_ascii=False, separators=(",", ":")).encode()

    def _event(self) -> Mapping[str, Json]:
        members: dict[str, Json] = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"urn:fleet:{self.fleet}",
            "type": event_type(self.matter),
            "time": time_text(self.at),
            "datacontenttype": "application/json",
            "data": {
                "number": self.number,
                "rule": self.rule,
                "severity": self.severity.word,
                "title": self.title,
                "owner": self.audience or None,
                "count": self.count,
                "items": [_members(each) for each in self.items],
            },
        }
        if self.count == 1 and self.items:
            members["subject"] = self.items[0].subject
        return members


_HEADINGS: Mapping[Change, str] = {
    Change.ARISES: "New",
    Change.WORSENS: "Nearer, or more of it",
    Change.CLEARS: "Over",
}


def _bullet(item: Item) -> str:
    return f"- {item.subject}: {item.text} (at {time_text(item.at)})"


def _members(item: Item) -> Mapping[str, Json]:
    return {
        "change": item.change.value,
        "subject": item.subject,
        "text": item.text,
        "severity": item.severity.word,
        "at": time_text(item.at),
    }
