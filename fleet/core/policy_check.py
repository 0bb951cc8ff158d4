"""What is wrong with an access policy that can be read: rules that never decide, and nobody who is granted.

Each finding names the line of a rule, why, and what to do; a policy with one is not put in force.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fleet.core import access
from fleet.core.access import Who
from fleet.core.policy import CONNECTIONS, Condition, Facts, Policy, Rule, Written, grants_of
from fleet.grants import Action, Effect, Grant
from fleet.model import Purpose

MOST_KINDS = 10_000
"""Of certificates that a policy may tell apart: brokers hold what each kind may do."""

_ANYBODY = Who(purpose=Purpose.DEVICE, name="", serial="", client_id="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A reason not to put a policy in force."""

    line: int
    message: str
    hint: str


def findings(
    policy: Policy, *, profiles: Mapping[str, frozenset[str]], known: Iterable[Facts] = ()
) -> tuple[Finding, ...]:
    """Return all that is wrong, by line.

    `profiles` are those of each domain; `known` is what is known of the certificates that are admitted now,
    and nothing where there are none yet.
    """
    found = [*_nothing_allowed(policy)]
    for rule in policy.rules:
        found += _impossible(rule, profiles)
        found += _never_decides(policy, rule)
        found += _ambiguous(rule)
    admitted = tuple(known)
    found = found or [*_nobody_granted(policy, admitted), *_too_many(policy, admitted)]
    return tuple(sorted(found, key=lambda finding: finding.line))


def _nothing_allowed(policy: Policy) -> Iterator[Finding]:
    if not any(rule.effect is Effect.ALLOW for rule in policy.rules):
        yield Finding(
            line=1,
            message="the policy grants nothing to anybody: no device could tell or hear anything",
            hint='add [[allow]] with publish = ["devices/{domain}/{id}/#"]',
        )


def _nobody_granted(policy: Policy, known: tuple[Facts, ...]) -> Iterator[Finding]:
    if known and not any(_grants_anything(policy, facts) for facts in known):
        yield Finding(
            line=min(rule.line for rule in policy.rules if rule.effect is Effect.ALLOW),
            message="no device that is admitted now would be granted anything",
            hint="loosen a condition; fleet policy explain DEVICE publish TOPIC shows what is known of one",
        )


def _too_many(policy: Policy, known: tuple[Facts, ...]) -> Iterator[Finding]:
    if len(known) > MOST_KINDS:
        fact = max(policy.asks, key=lambda name: len({facts.get(name) for facts in known}))
        yield Finding(
            line=min(line for rule in policy.rules for line in _lines_about(rule, fact)),
            message=f"{fact} tells more than {MOST_KINDS} kinds of certificates apart",
            hint="ask about a group, or another fact that many devices share",
        )


def _lines_about(rule: Rule, fact: str) -> Iterator[int]:
    yield from (condition.line for condition in rule.when if condition.fact == fact)
    if fact not in CONNECTIONS:
        yield from (written.line for written in rule.written if fact in written.variables)


def _grants_anything(policy: Policy, facts: Facts) -> bool:
    if any(grant.effect is Effect.ALLOW for grant in grants_of(policy, facts).grants):
        return True
    return any(
        rule.effect is Effect.ALLOW and rule.holds(facts) and (rule.roles or rule.users)
        for rule in policy.rules
    )


def _impossible(rule: Rule, profiles: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    domains = _named(rule, "domain") or frozenset(profiles)
    for condition in rule.when:
        if condition.fact == "domain" and not condition.values & profiles.keys():
            yield _unreachable(rule, condition, "there is no such domain", "fleet domain list")
        in_domains = frozenset[str]().union(*(profiles.get(domain, frozenset()) for domain in domains))
        if condition.fact == "profile" and not condition.values & in_domains:
            yield _unreachable(
                rule, condition, "no domain of the rule has such a profile", "fleet profile list"
            )
    seen: set[str] = set()
    for condition in rule.when:
        if condition.fact in seen:
            yield _unreachable(rule, condition, "the same is asked twice", "give it a list of values")
        seen.add(condition.fact)


def _ambiguous(rule: Rule) -> Iterator[Finding]:
    """Refuse users that two devices could share: a `-` stands in domains and in ids, a `:` in no domain."""
    for user in rule.users:
        if {"domain", "id"} <= set(user.variables) and "{domain}:{id}" not in user.text:
            yield Finding(
                line=user.line,
                message=f"two devices can be the same user {user.text!r}: a:b-c and a-b:c",
                hint='write "{domain}:{id}": no domain holds a colon',
            )


def _named(rule: Rule, fact: str) -> frozenset[str]:
    return frozenset[str]().union(*(each.values for each in rule.when if each.fact == fact))


def _unreachable(rule: Rule, condition: Condition, reason: str, hint: str) -> Finding:
    message = f"rule {rule.name!r} can never hold: {reason}"
    return Finding(line=condition.line, message=message, hint=hint)


def _never_decides(policy: Policy, rule: Rule) -> Iterator[Finding]:
    """Find a rule of which every line is decided elsewhere, whoever asks."""
    if rule.effect is Effect.DENY:
        allowing = [other for other in policy.rules if other.effect is Effect.ALLOW]
        if not any(_touches(rule, other) for other in allowing):
            yield Finding(
                line=rule.line,
                message=f"rule {rule.name!r} denies what no rule allows: it never decides anything",
                hint="leave it out, or mend its patterns",
            )
        return
    for other in policy.rules:
        if other is not rule and _decides_all(other, rule) and not _is_twin_before(rule, other):
            verb = "denies" if other.effect is Effect.DENY else "allows"
            yield Finding(
                line=rule.line,
                message=f"rule {rule.name!r} never decides anything: rule {other.name!r}"
                f" (line {other.line}) {verb} all of it already",
                hint="leave one of the two out, or narrow it",
            )
            return


def _is_twin_before(rule: Rule, other: Rule) -> bool:
    """Of two rules that say the same, the later one is told of."""
    return other.effect is rule.effect and _decides_all(rule, other) and rule.line < other.line


def _decides_all(other: Rule, rule: Rule) -> bool:
    """Say whether wherever `rule` holds `other` does, and decides every line of it."""
    holds = all(any(mine.implies(each) for mine in rule.when) for each in other.when)
    return holds and all(_covers_all(other, rule, action) for action in Action) and _same_words(other, rule)


def _covers_all(other: Rule, rule: Rule, action: Action) -> bool:
    return all(
        any(_covers(theirs, mine, action) for theirs in other.topics(action)) for mine in rule.topics(action)
    )


def _covers(wide: Written, narrow: Written, action: Action) -> bool:
    grant = Grant(effect=Effect.ALLOW, action=action, pattern=_literal(wide))
    return access.allows(_ANYBODY, grant, action, _literal(narrow))


def _touches(deny: Rule, allow: Rule) -> bool:
    """Say whether a denial can take anything of what another rule allows."""
    if any(
        _meet(mine, theirs)
        for action in Action
        for mine in deny.topics(action)
        for theirs in allow.topics(action)
    ):
        return True
    pairs = ((deny.roles, allow.roles), (deny.users, allow.users))
    return any(
        mine.text == theirs.text or mine.variables or theirs.variables
        for denied, allowed in pairs
        for mine in denied
        for theirs in allowed
    )


def _meet(one: Written, other: Written) -> bool:
    """Say whether two patterns can match the same topic, whatever their variables stand for."""
    grant = Grant(effect=Effect.DENY, action=Action.SUBSCRIBE, pattern=_open(one))
    return access.denies(_ANYBODY, grant, Action.SUBSCRIBE, _open(other))


def _open(written: Written) -> str:
    return "/".join("+" if level.startswith("{") else level for level in written.text.split("/"))


def _literal(written: Written) -> str:
    """Return a pattern whose variables are names of their own: equal ones match, and nothing else does.

    A `+` that it holds stays one: it matches them all.
    """
    return "/".join(
        f"_{level[1:-1]}" if level.startswith("{") else level for level in written.text.split("/")
    )


def _same_words(other: Rule, rule: Rule) -> bool:
    pairs = ((rule.roles, other.roles), (rule.users, other.users))
    return all({each.text for each in mine} <= {each.text for each in theirs} for mine, theirs in pairs)
