"""Who counts as another person: nobody who was made an operator for the purpose, or by the one he backs.

A stolen certificate can add operators. What it adds, and what those add, is the same hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

OWNER = "local"
"""The owner of the home: nobody made him, and what he makes stands for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An operator, present or past; `added_by` is a name, empty where nobody remembers."""

    added_at: datetime
    added_by: str


def why_same_hand(name: str, people: Mapping[str, Person], *, of: frozenset[str], since: datetime) -> str:
    """Return why somebody does not count beside others, or nothing.

    `since` is when the matter began: whoever came later was perhaps brought for it.
    """
    if name == OWNER:
        return ""
    person = people.get(name)
    if person is None:
        return f"{name} is no operator"
    if person.added_at > since:
        return f"{name} was added after that"
    seen, above = {name}, person.added_by
    while above in people and above not in seen:
        if above in of:
            return f"{name} was added by {above}"
        seen.add(above)
        above = people[above].added_by
    return ""
