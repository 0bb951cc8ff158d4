"""The fields of the query language: what each is called, what it holds, and what it means. One table."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fleet.model import Standing


class FieldKind(StrEnum):
    """How the values of a field compare."""

    TEXT = "text"
    """With `=` and `!=`; `*` stands for anything."""
    TEXTS = "texts"
    """As text, and a device may have several: one that fits is enough."""
    WORD = "word"
    """With `=` and `!=`; one of a few."""
    AHEAD = "ahead"
    """A time to come: a duration counts from now on."""
    AGO = "ago"
    """A time that is past: a duration counts back from now."""


TIMES = frozenset({FieldKind.AHEAD, FieldKind.AGO})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field; `example` is a term with it."""

    name: str
    kind: FieldKind
    about: str
    example: str
    words: tuple[str, ...] = ()
    """What a field of words takes."""


ATTRIBUTE = "attr."
"""How the field of an attribute begins; its name follows."""

FIELDS: Mapping[str, Field] = {
    field.name: field
    for field in (
        Field(name="domain", kind=FieldKind.TEXT, about="the security domain", example="domain=prod"),
        Field(name="id", kind=FieldKind.TEXT, about="the device id", example="id=line3-*"),
        Field(name="batch", kind=FieldKind.TEXT, about="the batch it was made in", example="batch=spring"),
        Field(
            name="profile",
            kind=FieldKind.TEXT,
            about="the profile of its certificate, or before its first the one chosen for it",
            example="profile=sensor",
        ),
        Field(name="model", kind=FieldKind.TEXT, about="what kind of device it is", example="model=TX-200"),
        Field(
            name="hardware",
            kind=FieldKind.TEXT,
            about="what it was registered as",
            example="hardware=SN-77*",
        ),
        Field(name="group", kind=FieldKind.TEXTS, about="a group that it is in", example="group=pilot"),
        Field(name="tag", kind=FieldKind.TEXTS, about="a tag that it bears", example="tag=outdoor"),
        Field(name="owner", kind=FieldKind.TEXT, about="whose it is", example="owner=acme"),
        Field(
            name="standing",
            kind=FieldKind.WORD,
            about="where it stands",
            example="standing=active",
            words=tuple(Standing),
        ),
        Field(
            name="expires",
            kind=FieldKind.AHEAD,
            about="when the certificate ends that it connects with; never, if that is over",
            example="expires<30d",
        ),
        Field(
            name="enrolled",
            kind=FieldKind.AGO,
            about="when it got its first certificate",
            example="enrolled>=2026-01-31",
        ),
        Field(name="registered", kind=FieldKind.AGO, about="when it became known", example="registered<1d"),
        Field(name="seen", kind=FieldKind.AGO, about="when it was last there", example="seen>7d"),
        Field(
            name="version",
            kind=FieldKind.TEXT,
            about="the version of its agent, as it says",
            example="version=1.4.*",
        ),
        Field(
            name="issuer",
            kind=FieldKind.TEXTS,
            about="the CA of its certificate: its name in `fleet ca list`, or its key identifier",
            example="issuer=prod/device-1",
        ),
        Field(
            name="station",
            kind=FieldKind.TEXTS,
            about="a factory station that has had it in hand",
            example="station=line3",
        ),
    )
}
"""Beside them `attr.NAME`, a text: what a template, a webhook or an operator noted under that name."""

OLD_PREFIX = "prefix"
"""How queries said `id=...*` before there were wildcards."""


def field_of(name: str) -> Field | None:
    """Return a field by its name, or None; an attribute's is a text."""
    if name.startswith(ATTRIBUTE) and name != ATTRIBUTE:
        return Field(name=name, kind=FieldKind.TEXT, about="an attribute", example="attr.site=berlin")
    return FIELDS.get(name)
