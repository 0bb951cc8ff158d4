"""The access policy: rules from what is known of a certificate to topics, roles and users; decided here.

Nothing is allowed that no rule allows; a denial wins over every permission, so the order of rules means
nothing. Rules speak of devices. What the protocol itself needs, `core.access` allows, and no rule can take.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from fleet.core import access
from fleet.core.access import LONGEST_PATTERN, Who
from fleet.grants import Action, Effect, Grant, GrantSet
from fleet.model import Assurance, Purpose

Facts: TypeAlias = Mapping[str, frozenset[str]]
"""What is known of a certificate, by the name of the fact: its values, of which there may be several."""

ASSURANCE = "assurance"
ATTRIBUTE = "attr."
FACTS = ("domain", "profile", "group", ASSURANCE, "tag", "model", "owner", "batch")
"""What a rule may ask about, beside attributes: `attr.<name>`."""
CONNECTIONS = ("domain", "id", "serial")
"""Variables that each connection fills in by itself."""

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_ONE_LEVEL = re.compile(r"[A-Za-z0-9_.:@=,;-]{1,64}", re.ASCII)
_RANKS = {level.word: level for level in Assurance}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A fact that must have one of some values; of assurance, at least the least of them."""

    fact: str
    values: frozenset[str]
    line: int

    def holds(self, facts: Facts) -> bool:
        known = facts.get(self.fact, frozenset())
        if self.fact == ASSURANCE:
            least = min(_RANKS[value] for value in self.values)
            return any(_RANKS[value] >= least for value in known if value in _RANKS)
        return bool(known & self.values)

    def implies(self, other: "Condition") -> bool:
        """Say whether the other one holds wherever this one does."""
        if self.fact != other.fact:
            return False
        if self.fact == ASSURANCE:
            return min(_RANKS[value] for value in self.values) >= min(_RANKS[value] for value in other.values)
        return self.values <= other.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A topic pattern, role or user, and the line where it stands."""

    text: str
    line: int

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(_VARIABLE.findall(self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What certificates for which all conditions hold are allowed, or denied."""

    effect: Effect
    name: str
    line: int
    when: tuple[Condition, ...] = ()
    publish: tuple[Written, ...] = ()
    subscribe: tuple[Written, ...] = ()
    roles: tuple[Written, ...] = ()
    """Words by which web servers know what a client may do."""
    users: tuple[Written, ...] = ()
    """Names by which relying parties know a client."""
    others: bool = False
    """It is meant to reach other devices' topics."""

    def holds(self, facts: Facts) -> bool:
        return all(condition.holds(facts) for condition in self.when)

    def topics(self, action: Action) -> tuple[Written, ...]:
        return self.publish if action is Action.PUBLISH else self.subscribe

    @property
    def written(self) -> tuple[Written, ...]:
        return (*self.publish, *self.subscribe, *self.roles, *self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All rules, as they were written."""

    rules: tuple[Rule, ...]

    @property
    def asks(self) -> tuple[str, ...]:
        """The facts that any rule depends on, sorted: what certificates must be told apart by."""
        names = {condition.fact for rule in self.rules for condition in rule.when}
        filled = {name for rule in self.rules for each in rule.written for name in each.variables}
        return tuple(sorted(names | (filled - set(CONNECTIONS))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """An answer, and what it rests on: a rule and one line of it, or none."""

    allowed: bool
    rule: Rule | None = None
    by: Written | None = None
    protocols: bool = False
    """The protocol's own rules allow it."""
    near: tuple[Rule, ...] = ()
    """Rules that would allow it, were their conditions true."""


def grants_of(policy: Policy, facts: Facts) -> GrantSet:
    """Return what the policy comes to at a broker, for certificates of which these facts are known."""
    granted = (grant for _, _, grant in _granted(policy, facts))
    return GrantSet(purpose=Purpose.DEVICE, grants=tuple(dict.fromkeys(granted)))


def decide(policy: Policy, who: Who, facts: Facts, *, action: Action, topic: str) -> Decided:
    """Return whether a device may publish to a topic, or subscribe to a filter, and why.

    Agrees with `access.may_publish` and `may_subscribe` for the grants that `grants_of` returns.
    """
    wild = action is Action.PUBLISH and ("+" in topic or "#" in topic)
    if not wild and access.is_protocols(who, action, topic):
        return Decided(allowed=True, protocols=True)
    granted = list(_granted(policy, facts))
    for rule, by, grant in granted:
        if access.denies(who, grant, action, topic):
            return Decided(allowed=False, rule=rule, by=by)
    for rule, by, grant in granted:
        if not wild and access.allows(who, grant, action, topic):
            return Decided(allowed=True, rule=rule, by=by)
    return Decided(allowed=False, near=() if wild else _near(policy, who, facts, action, topic))


def roles_of(policy: Policy, facts: Facts) -> frozenset[str]:
    """Return the roles that web servers may give to a client, as the policy says."""
    allowed = _words(policy, facts, Effect.ALLOW, of=lambda rule: rule.roles)
    return allowed - _words(policy, facts, Effect.DENY, of=lambda rule: rule.roles)


def users_of(policy: Policy, who: Who, facts: Facts) -> frozenset[str]:
    """Return the user names of a client at relying parties, as the policy says."""
    domain, _, device_id = who.name.partition(":")
    known = {**facts, **_one(domain=domain, id=device_id, serial=who.serial)}
    allowed = _words(policy, known, Effect.ALLOW, of=lambda rule: rule.users)
    return allowed - _words(policy, known, Effect.DENY, of=lambda rule: rule.users)


def expanded(text: str, facts: Facts, *, kept: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a text with the values of its variables, once for each combination; none where one has no value.

    Variables that are `kept` stay as they are. A value that could stand for more than one level of a topic,
    or for a wildcard, is none.
    """
    names = list(dict.fromkeys(_VARIABLE.findall(text)))
    for values in product(*([f"{{{name}}}"] if name in kept else _values(name, facts) for name in names)):
        found = dict(zip(names, values, strict=True))
        yield _VARIABLE.sub(lambda match: found[match.group(1)], text)  # noqa: B023 - used at once


def _values(name: str, facts: Facts) -> list[str]:
    return [value for value in sorted(facts.get(name, ())) if _ONE_LEVEL.fullmatch(value)]


def _one(**values: str) -> dict[str, frozenset[str]]:
    return {name: frozenset({value}) for name, value in values.items()}


def _granted(policy: Policy, facts: Facts) -> Iterator[tuple[Rule, Written, Grant]]:
    for rule in policy.rules:
        if rule.holds(facts):
            yield from _grants(rule, facts)


def _grants(rule: Rule, facts: Facts) -> Iterator[tuple[Rule, Written, Grant]]:
    for action in Action:
        for written in rule.topics(action):
            for pattern in expanded(written.text, facts, kept=CONNECTIONS):
                if len(pattern) <= LONGEST_PATTERN:
                    yield rule, written, Grant(effect=rule.effect, action=action, pattern=pattern)


def _near(policy: Policy, who: Who, facts: Facts, action: Action, topic: str) -> tuple[Rule, ...]:
    return tuple(
        rule
        for rule in policy.rules
        if rule.effect is Effect.ALLOW
        and not rule.holds(facts)
        and any(
            access.allows(who, grant, action, topic) for _, _, grant in _grants(rule, _wished(rule, facts))
        )
    )


def _wished(rule: Rule, facts: Facts) -> Facts:
    """Return what would be known of a certificate, were the conditions of a rule true."""
    return {**facts, **{each.fact: each.values for each in rule.when if not each.holds(facts)}}


def _words(
    policy: Policy, facts: Facts, effect: Effect, *, of: Callable[[Rule], tuple[Written, ...]]
) -> frozenset[str]:
    return frozenset(
        word
        for rule in policy.rules
        if rule.effect is effect and rule.holds(facts)
        for written in of(rule)
        for word in expanded(written.text, facts)
    )
