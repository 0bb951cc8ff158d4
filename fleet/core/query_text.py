"""Reads the query language: `domain=prod and (tag=outdoor or expires<30d) and not standing=retired`.

    query  = part { "or" part }
    part   = piece { ["and"] piece }
    piece  = "not" piece | "(" query ")" | "all" | FIELD OPERATOR VALUE

Any text is a query, or a `BadInputError` that says where it stops being one. Length, terms, depth are capped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from device_agent.wire.identity import parse_device_id, parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core.query import (
    Condition,
    Either,
    Every,
    Everything,
    NeverTerm,
    Not,
    Pattern,
    Query,
    TextTerm,
)
from fleet.core.query_fields import ATTRIBUTE, FIELDS, OLD_PREFIX, TIMES, Field, FieldKind, field_of
from fleet.core.query_times import NEVER, time_term
from fleet.errors import BadInputError

LONGEST_QUERY = 4096
MOST_TERMS = 64
DEEPEST = 16


class _Kind(StrEnum):
    OPEN = "("
    CLOSE = ")"
    OPERATOR = "operator"
    WORD = "word"
    QUOTED = "quoted"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: _Kind
    text: str
    at: int
    """Of its first character, from 1."""

    def says(self, keyword: str) -> bool:
        return self.kind is _Kind.WORD and self.text.lower() == keyword


_TOKEN = re.compile(
    r"""(?P<open>\()|(?P<close>\))|(?P<operator><=|>=|!=|=|<|>)"""
    r"""|"(?P<double>(?:[^"\\]|\\["\\])*)"|'(?P<single>(?:[^'\\]|\\['\\])*)'"""
    r"""|(?P<word>[^\s()<>=!"']+)"""
)
_NAMES = {"domain": parse_domain, "id": parse_device_id}
"""What can be no name is a slip of the pen: it would find nothing."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_query(text: str) -> Query:
    """Return the query behind a text; whoever means every device has to say `all`.

    Raises:
        BadInputError: it is none; the message says where, the hint what would do.
    """
    if len(text) > LONGEST_QUERY:
        raise BadInputError(
            f"the query has {len(text)} characters, and {LONGEST_QUERY} is the most",
            hint="fleet group add makes a group to ask for",
        )
    if not text.strip():
        raise BadInputError("the query is empty", hint="all selects every device; tag=outdoor some of them")
    for place, letter in enumerate(text, start=1):
        if not letter.isprintable() and not letter.isspace():
            raise _wrong(place, "a control character does not belong here", "type it again")
    return Query(text=text.strip(), condition=_Reader(_tokens(text)).read())


def _tokens(text: str) -> tuple[_Token, ...]:
    found, place = [], 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        match = _TOKEN.match(text, place)
        if match is None:
            raise _wrong(place + 1, f"{text[place]} does not belong here", "a quote must be closed")
        found.append(_token(match))
        place = match.end()
    return (*found, _Token(kind=_Kind.END, text="", at=len(text) + 1))


def _token(match: re.Match[str]) -> _Token:
    kind, text = match.lastgroup or "", match[0]
    if kind in {"double", "single"}:
        return _Token(kind=_Kind.QUOTED, text=_ESCAPED.sub(r"\1", match[kind]), at=match.start() + 1)
    kinds = {"open": _Kind.OPEN, "close": _Kind.CLOSE, "operator": _Kind.OPERATOR, "word": _Kind.WORD}
    return _Token(kind=kinds[kind], text=text, at=match.start() + 1)


class _Reader:
    """Goes over the tokens once, from left to right."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._terms = 0

    def read(self) -> Condition:
        """Return what all of them say."""
        condition = self._either(0)
        token = self._tokens[self._next]
        if token.kind is not _Kind.END:
            raise _wrong(token.at, f"{token.text} closes nothing", "count the parentheses")
        return condition

    def _either(self, depth: int) -> Condition:
        parts = [self._every(depth)]
        while self._tokens[self._next].says("or"):
            self._next += 1
            parts.append(self._every(depth))
        return parts[0] if len(parts) == 1 else Either(conditions=tuple(parts))

    def _every(self, depth: int) -> Condition:
        parts = [self._piece(depth)]
        while not self._ends_here():
            if self._tokens[self._next].says("and"):
                self._next += 1
            parts.append(self._piece(depth))
        return parts[0] if len(parts) == 1 else Every(conditions=tuple(parts))

    def _ends_here(self) -> bool:
        token = self._tokens[self._next]
        return token.kind in {_Kind.END, _Kind.CLOSE} or token.says("or")

    def _piece(self, depth: int) -> Condition:
        token = self._take()
        if depth > DEEPEST:
            raise _wrong(token.at, f"more than {DEEPEST} levels", "say it with fewer parentheses")
        if token.kind is _Kind.OPEN:
            inner = self._either(depth + 1)
            if self._take().kind is not _Kind.CLOSE:
                raise _wrong(token.at, "this parenthesis is not closed", "add a )")
            return inner
        if token.kind is not _Kind.WORD:
            raise _wrong(token.at, _missing(token), f"such as {FIELDS['tag'].example}")
        is_term = self._tokens[self._next].kind is _Kind.OPERATOR
        if token.says("not") and not is_term:
            return Not(condition=self._piece(depth + 1))
        if token.says("all") and not is_term:
            return Everything()
        return self._term(token)

    def _term(self, name: _Token) -> Condition:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise _wrong(name.at, f"more than {MOST_TERMS} terms", "ask for a group instead")
        operator, value = self._take(), self._take()
        known = field_of(name.text)
        such_as = f"such as {(FIELDS['tag'] if known is None else known).example}"
        if operator.kind is not _Kind.OPERATOR:
            raise _wrong(operator.at, f"{name.text} is followed by no operator", such_as)
        if value.kind not in {_Kind.WORD, _Kind.QUOTED}:
            raise _wrong(value.at, f"{name.text}{operator.text} has no value", such_as)
        if name.text == OLD_PREFIX and operator.text == "=":
            return TextTerm(field="id", pattern=Pattern(parts=(value.text, "")))
        if known is None:
            fields = ", ".join((*FIELDS, f"{ATTRIBUTE}NAME"))
            raise _wrong(name.at, f"there is no field {name.text}", f"there are {fields}")
        return _said(known, operator, value)

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token


def _said(field: Field, operator: _Token, value: _Token) -> Condition:
    """Return a term, its value read as its field's kind wants it."""
    if field.kind in TIMES and value.text != NEVER:
        try:
            return time_term(field, operator.text, value.text)
        except ValueError as error:
            raise _wrong(value.at, str(error), f"such as {field.example}") from error
    if operator.text not in {"=", "!="}:
        raise _wrong(operator.at, f"{field.name} compares by = and != alone", f"such as {field.example}")
    term = NeverTerm(field=field.name) if field.kind in TIMES else _text_term(field, value)
    return term if operator.text == "=" else Not(condition=term)


def _text_term(field: Field, value: _Token) -> TextTerm:
    parts = (value.text,) if value.kind is _Kind.QUOTED else tuple(value.text.split("*"))
    if field.kind is FieldKind.WORD and (len(parts) > 1 or parts[0] not in field.words):
        raise _wrong(value.at, f"{field.name} is never {value.text}", f"but {', '.join(field.words)}")
    if len(parts) > 3 or (len(parts) == 3 and not (parts[0] == parts[2] == "" != parts[1])):
        raise _wrong(value.at, f"* cannot stand there in {value.text}", "such as a*, *z, a*z, *mid*")
    if len(parts) == 1 and parts[0] and field.name in _NAMES:
        try:
            _NAMES[field.name](parts[0])
        except MalformedMessageError as error:
            raise _wrong(value.at, str(error), f"such as {field.example}") from error
    return TextTerm(field=field.name, pattern=Pattern(parts=parts))


def _missing(token: _Token) -> str:
    return "a term is missing" if token.kind in {_Kind.END, _Kind.CLOSE} else f"{token.text} is no term"


def _wrong(at: int, what: str, hint: str) -> BadInputError:
    return BadInputError(f"the query is not right at character {at}: {what}", hint=hint)
