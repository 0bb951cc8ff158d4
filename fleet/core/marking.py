"""What operators know of a device, and what an act changes of it: model, owner, attributes, tags, groups."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fleet.errors import BadInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_LONGEST_MODEL = 64
_LONGEST_VALUE = 256
_MOST = 32
"""Tags, attributes or groups in one act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """All that is known; what nobody has said is empty. `groups` are those that it was put in."""

    model: str = ""
    owner: str = ""
    version: str = ""
    """Of its agent, by its own word."""
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is added to a set, and what is taken out of it."""

    put: tuple[str, ...] = ()
    take: tuple[str, ...] = ()

    def of(self, words: Iterable[str]) -> tuple[str, ...]:
        """Return a set after the changes, sorted."""
        return tuple(sorted({*words, *self.put} - {*self.take}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """What is to be said of a device; None leaves it as it is, an empty text takes it back."""

    model: str | None = None
    owner: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    """By name; an empty value takes the attribute back."""
    tags: Changes = field(default_factory=Changes)
    groups: Changes = field(default_factory=Changes)

    @property
    def says_nothing(self) -> bool:
        """Whether nothing would be changed of any device."""
        return self == Marking()

    def of(self, marks: Marks) -> Marks:
        """Return what is known of a device after it."""
        attributes = {**dict(marks.attributes), **dict(self.attributes)}
        taken = {(name, value) for name, value in self.attributes if not value}
        return Marks(
            model=marks.model if self.model is None else self.model,
            owner=marks.owner if self.owner is None else self.owner,
            version=marks.version,
            tags=self.tags.of(marks.tags),
            groups=self.groups.of(marks.groups),
            attributes=tuple(sorted(one for one in attributes.items() if one not in taken)),
        )


def facts_changed(before: Marks, after: Marks) -> frozenset[str]:
    """Return what an access policy could ask about and is not as before, by the policy's names."""
    kinds = (
        ("model", before.model, after.model),
        ("owner", before.owner, after.owner),
        ("tag", before.tags, after.tags),
        ("group", before.groups, after.groups),
    )
    attributes = set(before.attributes) ^ set(after.attributes)
    return frozenset(
        [name for name, old, new in kinds if old != new] + [f"attr.{name}" for name, _ in attributes]
    )


def checked(marking: Marking) -> Marking:
    """Return a marking whose every word may stand in the records.

    Raises:
        BadInputError: one may not, or the same is to be put and taken.
    """
    if marking.owner:
        parse_word(marking.owner, what="owner")
    if marking.model is not None:
        _readable(marking.model, what="model", longest=_LONGEST_MODEL)
    for name, value in marking.attributes:
        parse_word(name, what="attribute")
        _readable(value, what=f"attribute {name}", longest=_LONGEST_VALUE)
    for what, changes in (("tag", marking.tags), ("group", marking.groups)):
        for word in (*changes.put, *changes.take):
            parse_word(word, what=what)
        if both := set(changes.put) & set(changes.take):
            raise BadInputError(f"{what} {min(both)} cannot be both put and taken", hint="say one of the two")
    sets = (marking.tags, marking.groups)
    many = max(len(marking.attributes), *(len(one.put) + len(one.take) for one in sets))
    if many > _MOST:
        raise BadInputError(
            f"{many} of a kind at once, and {_MOST} is the most", hint="say it in several acts"
        )
    return marking


def parse_word(text: str, *, what: str) -> str:
    """Return the name of a tag, group, owner or attribute: 1 to 64 of `A-Z a-z 0-9 _ . -`.

    Raises:
        BadInputError: it is anything else.
    """
    if _NAME.fullmatch(text):
        return text
    raise BadInputError(
        f"{text[:64]!a} can be no name of {_ARTICLE.get(what, 'a')} {what}",
        hint="1 to 64 of A-Z a-z 0-9 _ . - and first a letter or digit",
    )


_ARTICLE = {"owner": "an", "attribute": "an"}
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII
)


def parse_address(text: str) -> str:
    """Return a mail address (RFC 5321 4.1.2, without quoted parts).

    Raises:
        BadInputError: it is none.
    """
    if _ADDRESS.fullmatch(text) and ".." not in text:
        return text
    raise BadInputError(f"{text[:64]!a} is no mail address", hint="such as fleet@example.com")


def changes_of(before: Marks, after: Marks) -> tuple[tuple[str, str], ...]:
    """Return what changed, for the trail: the new value of each thing, sets whole and apart by spaces."""
    texts = ((name, read(before), read(after)) for name, read in _TOLD)
    found = [(name, new) for name, old, new in texts if old != new]
    old, new = dict(before.attributes), dict(after.attributes)
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return (*found, *((f"{ATTRIBUTE_DETAIL}{name}", new.get(name, "")) for name in changed))


ATTRIBUTE_DETAIL = "attribute "
"""How the detail of an attribute begins in the trail; an empty value: it was taken back."""

_TOLD: tuple[tuple[str, Callable[[Marks], str]], ...] = (
    ("model", lambda marks: marks.model),
    ("owner", lambda marks: marks.owner),
    ("tags", lambda marks: " ".join(marks.tags)),
    ("groups", lambda marks: " ".join(marks.groups)),
)


def _readable(text: str, *, what: str, longest: int) -> None:
    if len(text) > longest or not text.isprintable():
        raise BadInputError(
            f"{what}: {text[:longest]!a} is not printable, or longer than {longest} characters",
            hint="shorten it",
        )
