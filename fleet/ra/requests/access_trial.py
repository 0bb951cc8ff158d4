"""Tries a changed access policy on what brokers decided before, and explains what the one in force decides.

It only reads: the evaluator that makes the brokers' rules answers here, by what is known of a device now.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity, parse_name
from device_agent.wire.problems import MalformedMessageError
from fleet.core.access import Who
from fleet.core.policy import Decided, Facts, Policy, Rule, decide, roles_of, users_of
from fleet.errors import NotFoundError
from fleet.grants import Action
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.access_rules import policy_in_force
from fleet.ra.context import Context
from fleet.ra.requests.access_policy import check_access
from fleet.store import access_classes, allowlist
from fleet.store.backends import load_backend
from fleet.store.devices import load_record
from fleet.store.topic_decisions import KeptDecision, decisions_after

MAX_DIFFERENCES = 1000
"""That are told one by one; all of them are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDifference:
    """A decision on record that would be another one."""

    kept: KeptDecision
    before: Decided
    after: Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTrial:
    """What a change would do to the traffic on record."""

    decisions: int
    """That are on record, of devices that are admitted."""
    since: datetime | None
    different: int
    differences: tuple[AccessDifference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May this device do that with this topic?"""

    identity: Identity
    action: Action
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessExplained:
    """The answer, and what it rests on."""

    admitted: bool
    """A certificate of it is let in at all; otherwise the answer is that of the policy alone."""
    decided: Decided
    facts: Facts
    """What is known of it, of all that the policy asks about."""
    lacking: tuple[tuple[Rule, tuple[str, ...]], ...]
    """Rules that would allow it, each with the conditions that do not hold."""
    roles: frozenset[str]
    users: frozenset[str]


async def try_access(context: Context, text: str) -> AccessTrial:
    """Return which recorded decisions a policy would change; empty text is the home's file.

    Raises:
        BadInputError: the policy has a fault.
    """
    checked = await check_access(context, text)
    return await context.store.read(_try, checked.policy)


async def explain_access(context: Context, question: Question) -> AccessExplained:
    """Return what the policy in force decides, by which rule and line, and what would change it.

    Raises:
        NotFoundError: there is no such device.
    """
    return await context.store.read(_explain, question)


async def _try(tx: Transaction, wanted: Policy) -> AccessTrial:
    present = await policy_in_force(tx, None)
    decisions, since, found = 0, None, list[AccessDifference]()
    known: dict[str, tuple[Who, Facts] | None] = {}
    asks = (*present.asks, *wanted.asks)
    after: tuple[str, str, str, int] = ("", "", "", 0)
    while page := await decisions_after(tx, after):
        for kept in page:
            name = kept.decision.name
            if name not in known:
                known[name] = await _admitted(tx, name, asks)
            speaker = known[name]
            if speaker is None:
                continue
            decisions += 1
            since = kept.first_at if since is None else min(since, kept.first_at)
            found += _difference(kept, speaker, present=present, wanted=wanted)
        after = _key(page[-1])
    found.sort(key=lambda each: each.kept.last_at, reverse=True)
    return AccessTrial(
        decisions=decisions,
        since=since,
        different=len(found),
        differences=tuple(found[:MAX_DIFFERENCES]),
    )


def _difference(
    kept: KeptDecision, speaker: tuple[Who, Facts], *, present: Policy, wanted: Policy
) -> Iterator[AccessDifference]:
    who, facts = speaker
    action, topic = kept.decision.action, kept.decision.topic
    before = decide(present, who, facts, action=action, topic=topic)
    after = decide(wanted, who, facts, action=action, topic=topic)
    if before.allowed != after.allowed:
        yield AccessDifference(kept=kept, before=before, after=after)


def _key(kept: KeptDecision) -> tuple[str, str, str, int]:
    found = kept.decision
    return found.name, found.action.value, found.topic, int(found.allowed)


async def _admitted(tx: Transaction, name: str, asks: tuple[str, ...]) -> tuple[Who, Facts] | None:
    try:
        identity = parse_name(name)
    except MalformedMessageError:
        return None  # a backend: its scope is its own, and no policy changes it
    return await _speaker(tx, identity, asks)


async def _speaker(tx: Transaction, identity: Identity, asks: tuple[str, ...]) -> tuple[Who, Facts] | None:
    """Return as whom a device speaks, by the newest of its certificates that are admitted."""
    admitted = await allowlist.of_device(tx, identity)
    if not admitted:
        return None
    newest = admitted[-1]
    facts = await access_classes.facts_of(tx, identity, tuple(sorted(set(asks))))
    # An adopted leaf is on record under a serial number of ours.
    return _who(identity, newest.serial), facts.get(newest.serial) or facts[max(facts)]


def _who(identity: Identity, serial: str) -> Who:
    return Who(purpose=Purpose.DEVICE, name=identity.name, serial=serial, client_id=identity.name)


async def _explain(tx: Transaction, question: Question) -> AccessExplained:
    identity = question.identity
    if await load_record(tx, identity) is None:
        if await load_backend(tx, identity.device_id) is not None:
            raise NotFoundError(
                f"{identity.device_id} is a backend: its own scope says what it may",
                hint="fleet service list",
            )
        raise NotFoundError(f"{identity.name} is not registered", hint="fleet device list")
    policy = await policy_in_force(tx, None)
    speaker = await _speaker(tx, identity, policy.asks)
    who, facts = speaker or (_who(identity, ""), await _last_known(tx, identity, policy.asks))
    decided = decide(policy, who, facts, action=question.action, topic=question.topic)
    return AccessExplained(
        admitted=speaker is not None,
        decided=decided,
        facts=facts,
        lacking=tuple((rule, _unmet(rule, facts)) for rule in decided.near),
        roles=roles_of(policy, facts),
        users=users_of(policy, who, facts),
    )


async def _last_known(tx: Transaction, identity: Identity, asks: tuple[str, ...]) -> Facts:
    found = await access_classes.facts_of(tx, identity, asks)
    return found[max(found)] if found else {}


def _unmet(rule: Rule, facts: Facts) -> tuple[str, ...]:
    return tuple(
        f"{condition.fact} = {', '.join(sorted(condition.values))}"
        for condition in rule.when
        if not condition.holds(facts)
    )
