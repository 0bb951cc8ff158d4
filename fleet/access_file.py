"""Reads the access policy, `access.toml`; every fault is told with its line and a way out.

It never guesses: an unknown key, fact or variable, a pattern that is none, are refused, and so is whatever
would reach the topics of the fleet itself.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet.core.patterns import pattern_fault, reaches_others
from fleet.core.policy import ASSURANCE, ATTRIBUTE, CONNECTIONS, FACTS, Condition, Policy, Rule, Written
from fleet.errors import BadInputError
from fleet.grants import OWN_TOPICS, Effect
from fleet.model import Assurance

LARGEST = 48 * 1024
"""In bytes of UTF-8."""
_MOST_RULES = 200
_MOST_LINES = 64
_VARIABLES = tuple(dict.fromkeys([*CONNECTIONS, *FACTS]))
_KEYS = ("name", "when", "publish", "subscribe", "roles", "users", "others")
_LONGEST_NAME = 64
_VALUE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_ATTRIBUTE = re.compile(r"attr\.[A-Za-z0-9_.-]{1,64}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.:@{}-]{1,128}", re.ASCII)
_HEADER = re.compile(r"\s*\[\[\s*(allow|deny)\s*\]\]\s*(?:#.*)?$")

DEFAULT_TEXT = f"""\
# What certificates of devices may do. `fleet policy check` reads it, `fleet policy apply` puts it in force.

[[allow]]
name = "own topics"
publish = ["{OWN_TOPICS}"]
subscribe = ["{OWN_TOPICS}"]
"""
"""The policy as long as nobody wrote one."""


def parse(text: str, *, source: str = "access.toml") -> Policy:
    """Read a policy from its text; `source` is named in errors.

    Raises:
        BadInputError: with `source:line:` and what to do.
    """
    if len(text.encode()) > LARGEST:
        raise BadInputError(f"{source} is larger than {LARGEST} bytes", hint="is it the right file?")
    try:
        members = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(source, text, error) from error
    except RecursionError as error:
        raise BadInputError(f"{source} holds lists without end", hint="is it the right file?") from error
    lines = _Lines(source=source, text=text)
    for name in members:
        if name not in {effect.value for effect in Effect}:
            raise lines.error(
                None, name, f"unknown key {name!r}", hint="a rule begins with [[allow]] or [[deny]]"
            )
    rules = [rule for effect in Effect for rule in _rules(members.get(effect.value, []), effect, lines=lines)]
    _require_distinct(rules, lines)
    if len(rules) > _MOST_RULES:
        raise BadInputError(f"{source} has more than {_MOST_RULES} rules", hint="let rules share patterns")
    return Policy(rules=tuple(sorted(rules, key=lambda rule: rule.line)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A rule: which one of its kind, so that its lines can be found again."""

    effect: Effect
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """Finds the line of what tomllib has read: it tells values, not where they stood."""

    source: str
    text: str

    def of(self, place: _Place, word: str = "", *, key: str = "") -> int:
        """Return the line in a rule where a key or a quoted text begins, or of the rule's header.

        With a `key`, the text is looked for from the line of that key on.
        """
        first, last = self._extent(place)
        start = self.of(place, key) if key else first
        lines = self.text.splitlines()[start - 1 : last]
        wanted = re.compile(rf"""\b{re.escape(word)}\s*=|["']{re.escape(word)}["']""")
        found = (start + index for index, line in enumerate(lines) if word and wanted.search(line))
        return next(found, start)

    def error(self, place: _Place | None, word: str, message: str, *, hint: str) -> BadInputError:
        line = self._anywhere(word) if place is None else self.of(place, word)
        return BadInputError(f"{self.source}:{line}: {message}", hint=hint)

    def _extent(self, place: _Place) -> tuple[int, int]:
        lines = self.text.splitlines()
        headers = [
            (number, match.group(1))
            for number, line in enumerate(lines, start=1)
            if (match := _HEADER.match(line))
        ]
        own = [number for number, kind in headers if kind == place.effect]
        if place.number >= len(own):
            return 1, len(lines)
        first = own[place.number]
        following = (number for number, _ in headers if number > first)
        return first, next(following, len(lines) + 1) - 1

    def _anywhere(self, word: str) -> int:
        lines = self.text.splitlines()
        return next((number for number, line in enumerate(lines, start=1) if word in line), 1)


def _syntax(source: str, text: str, error: tomllib.TOMLDecodeError) -> BadInputError:
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
    line = (found and found.group(1)) or len(text.splitlines())
    reason = str(error)[: found.start()] if found else str(error)
    message = f"{source}:{line}: {reason[:1].lower()}{reason[1:]}"
    return BadInputError(message, hint="see https://toml.io for the syntax")


def _rules(found: object, effect: Effect, *, lines: _Lines) -> list[Rule]:
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise lines.error(None, effect, f"{effect} must be a list of tables", hint=f"write [[{effect}]]")
    return [
        _rule(members, _Place(effect=effect, number=number), lines) for number, members in enumerate(found)
    ]


def _rule(members: Mapping[str, object], place: _Place, lines: _Lines) -> Rule:
    for key in members:
        if key not in _KEYS:
            hint = f"known here: {', '.join(_KEYS)}"
            raise lines.error(place, key, f"unknown key {key!r} in [[{place.effect}]]", hint=hint)
    name, others = members.get("name"), members.get("others", False)
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= _LONGEST_NAME:
        raise lines.error(place, "name", "a rule needs a name", hint='such as name = "own topics"')
    if not isinstance(others, bool):
        raise lines.error(place, "others", "others must be true or false", hint="the default is false")
    rule = Rule(
        effect=place.effect,
        name=name,
        line=lines.of(place),
        when=_conditions(members.get("when", {}), place, lines),
        publish=_patterns(members, "publish", place, lines),
        subscribe=_patterns(members, "subscribe", place, lines),
        roles=_words(members, "roles", place, lines),
        users=_words(members, "users", place, lines),
        others=others,
    )
    if not rule.written:
        hint = 'add publish, subscribe, roles or users, such as publish = ["devices/{domain}/{id}/#"]'
        raise lines.error(place, "", f"rule {name!r} says nothing of topics, roles or users", hint=hint)
    _require_own(rule, place, lines)
    return rule


def _conditions(found: object, place: _Place, lines: _Lines) -> tuple[Condition, ...]:
    if not isinstance(found, dict):
        hint = 'such as when = { domain = "prod", group = "north" }'
        raise lines.error(place, "when", "when must be a table", hint=hint)
    return tuple(_condition(fact, value, place, lines) for fact, value in _flat(found).items())


def _flat(found: Mapping[str, object]) -> dict[str, object]:
    """Return the members, with those of the table `attr` under the names that conditions have."""
    attributes = found.get("attr")
    if not isinstance(attributes, dict):
        return dict(found)
    outer: dict[str, object] = {name: value for name, value in found.items() if name != "attr"}
    return outer | {f"{ATTRIBUTE}{name}": value for name, value in attributes.items()}


def _condition(fact: str, value: object, place: _Place, lines: _Lines) -> Condition:
    word = fact.removeprefix(ATTRIBUTE)
    if fact not in FACTS and not _ATTRIBUTE.fullmatch(fact):
        hint = f"one of {', '.join(FACTS)}, or an attribute: attr.NAME"
        raise lines.error(place, word, f"nothing is known of certificates as {fact!r}", hint=hint)
    given = value if isinstance(value, list) else [value]
    values = [each for each in given if isinstance(each, str) and _VALUE.fullmatch(each)]
    if len(values) != len(given) or not 1 <= len(values) <= _MOST_LINES:
        hint = f'such as {fact} = "..." or {fact} = ["...", "..."]'
        raise lines.error(place, word, f"{fact} must be a text, or a list of texts", hint=hint)
    levels = [level.word for level in Assurance]
    if fact == ASSURANCE and not set(values) <= set(levels):
        raise lines.error(place, word, "no such level of assurance", hint=f"one of {', '.join(levels)}")
    return Condition(fact=fact, values=frozenset(values), line=lines.of(place, word))


def _texts(members: Mapping[str, object], key: str, place: _Place, lines: _Lines) -> Sequence[str]:
    found = members.get(key, [])
    given = found if isinstance(found, list) else [found]
    texts = [each for each in given if isinstance(each, str)]
    if len(texts) != len(given) or len(texts) > _MOST_LINES:
        message = f"{key} must be a list of at most {_MOST_LINES} texts"
        raise lines.error(place, key, message, hint=f'such as {key} = ["..."]')
    return texts


def _words(members: Mapping[str, object], key: str, place: _Place, lines: _Lines) -> tuple[Written, ...]:
    found = []
    for text in _texts(members, key, place, lines):
        if not _WORD.fullmatch(text):
            raise lines.error(
                place, text, f"{key}: letters, digits and . _ : @ - alone", hint='such as "reader"'
            )
        known = _VARIABLES if key == "users" else FACTS
        found.append(_written(text, known, key, place=place, lines=lines))
    return tuple(found)


def _patterns(members: Mapping[str, object], key: str, place: _Place, lines: _Lines) -> tuple[Written, ...]:
    found = []
    for text in _texts(members, key, place, lines):
        if (fault := pattern_fault(text)) is not None:
            raise lines.error(place, text, f"{key}: {fault}", hint='such as "devices/{domain}/{id}/#"')
        found.append(_written(text, _VARIABLES, key, place=place, lines=lines))
    return tuple(found)


def _written(text: str, known: Sequence[str], key: str, *, place: _Place, lines: _Lines) -> Written:
    written = Written(text=text, line=lines.of(place, text, key=key))
    for name in written.variables:
        if name not in known and not _ATTRIBUTE.fullmatch(name):
            hint = f"one of {', '.join(f'{{{each}}}' for each in known)}, {{attr.NAME}}"
            raise lines.error(place, text, f"unknown variable {{{name}}}", hint=hint)
    return written


def _require_own(rule: Rule, place: _Place, lines: _Lines) -> None:
    if rule.effect is Effect.DENY or rule.others:
        return
    for written in (*rule.publish, *rule.subscribe):
        if reaches_others(written.text):
            hint = "name {domain} and {id}, or say others = true in the rule if that is what you mean"
            raise lines.error(place, written.text, "it reaches the topics of other devices", hint=hint)


def _require_distinct(rules: Sequence[Rule], lines: _Lines) -> None:
    seen: dict[str, Rule] = {}
    for rule in sorted(rules, key=lambda each: each.line):
        if rule.name in seen:
            message = f"a rule {rule.name!r} stands at line {seen[rule.name].line} already"
            raise BadInputError(
                f"{lines.source}:{rule.line}: {message}", hint="give each rule a name of its own"
            )
        seen[rule.name] = rule
