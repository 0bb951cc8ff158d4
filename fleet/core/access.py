"""Who may connect to a broker, how, and which topics are whose: rules as data, judged here and compiled.

What no rule allows is refused. A rule never widens a wildcard: a filter is allowed only if everything
that it can match is, so `#`, `+` and `$share/...` fall through unless a rule spells them out.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from device_agent.wire import topics
from device_agent.wire.identity import Identity, parse_sha256
from device_agent.wire.problems import MalformedMessageError
from fleet.core import isolation
from fleet.grants import DEFAULT_CLASSES, PLAIN_CLASS, Action, Classes, Effect, Grant, GrantSet
from fleet.model import Purpose

CONTROL = "$CONTROL/fleet/v1"
"""Orders to a broker's guard."""
GUARD_EVENTS = "$fleet/guard/events"
GUARD_REPLIES = "$fleet/guard/reply"
GUARD_DECISIONS = "$fleet/guard/decisions"
"""A sample of what was allowed and denied."""
NOTIFICATIONS = "fleet/v1/notifications/+"
"""What people are told, for services: a topic a matter."""
LONGEST_PATTERN = 256
LONGEST_CLIENT_ID = 128
"""In bytes of UTF-8."""
LONGEST_DOMAIN = 32

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class ClientForm(StrEnum):
    """What a client id must be."""

    NAME = "name"
    """The user name, exactly: nobody takes over another's session."""
    PART = "part"
    """The user name, or a part of it, `<name>.<word>`. A `.` stands in no device's name."""
    SHA256 = "sha256"
    """64 lower-case hex: the digest of the key in the CSR."""
    OTHER = "other"
    """Whatever cannot be a device's name nor the digest of a key: clients of others choose their own."""


class Leaves(StrEnum):
    """What a connection may leave behind at the broker."""

    NOTHING = "nothing"
    SESSION = "session"
    """Its subscriptions, but no retained message."""
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRule:
    """How certificates of one purpose connect with client ids of one form.

    `alone` refuses a second live connection with the same client id, instead of letting it take over.
    """

    purpose: Purpose
    form: ClientForm
    longest_keepalive: timedelta | None = None
    leaves: Leaves = Leaves.ALL

    @property
    def alone(self) -> bool:
        """Claims share a certificate: there the client id proves nothing, so it must not evict anybody.

        With ids of the free form a newcomer takes over (MQTT 3.1.1 3.1.4): answers go to a connection, never
        to a client id, and a device that lost its power must not wait for a long keep-alive to end.
        """
        return self.form is ClientForm.SHA256


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRule:
    """A pattern of topics for certificates of one purpose.

    A level may be `{domain}`, `{id}` or `{serial}` of the connection, `{client}`, its client id where that is
    the digest of a key, `+`, or a last `#`.
    """

    purpose: Purpose
    action: Action
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """One side of a connection: what its certificate proved, and the client id that it uses."""

    purpose: Purpose
    name: str
    serial: str
    client_id: str
    access: int = PLAIN_CLASS
    """Its class of the access policy."""


CONNECT_RULES: tuple[ConnectRule, ...] = (
    ConnectRule(purpose=Purpose.DEVICE, form=ClientForm.NAME),
    # A lost bootstrap link must free its client id soon, and leave no session for the next one to find.
    ConnectRule(
        purpose=Purpose.CLAIM,
        form=ClientForm.SHA256,
        longest_keepalive=timedelta(seconds=15),
        leaves=Leaves.NOTHING,
    ),
    # Clients of the AWS SDKs, unmodified: ids, keep-alive and session are as their makers chose.
    ConnectRule(purpose=Purpose.CLAIM, form=ClientForm.OTHER, leaves=Leaves.SESSION),
    ConnectRule(purpose=Purpose.SERVICE, form=ClientForm.PART),
    ConnectRule(purpose=Purpose.BACKEND, form=ClientForm.PART),
)


def _rules(purpose: Purpose, action: Action, *patterns: str) -> tuple[TopicRule, ...]:
    return tuple(TopicRule(purpose=purpose, action=action, pattern=pattern) for pattern in patterns)


RESERVED = "fleet"
"""First level of the topics that are ours: the rules below alone speak of it, and no policy."""
TOPIC_RULES: tuple[TopicRule, ...] = (
    *_rules(
        Purpose.DEVICE,
        Action.PUBLISH,
        "fleet/v1/{domain}/{id}/{serial}/request",
        "fleet/v1/{domain}/{id}/state",
    ),
    *_rules(
        Purpose.DEVICE,
        Action.SUBSCRIBE,
        "fleet/v1/{domain}/{id}/{serial}/response",
        "fleet/v1/{domain}/{id}/notice",
    ),
    *_rules(Purpose.CLAIM, Action.PUBLISH, "fleet/v1/enroll/{client}/request", *isolation.SHARED),
    *_rules(
        Purpose.CLAIM,
        Action.SUBSCRIBE,
        "fleet/v1/enroll/{client}/response",
        *(f"{topic}/{outcome}" for topic in isolation.SHARED for outcome in isolation.OUTCOMES),
    ),
    *_rules(
        Purpose.SERVICE,
        Action.PUBLISH,
        "fleet/v1/enroll/+/response",
        isolation.ANSWERS,
        "fleet/v1/+/+/+/response",
        "fleet/v1/+/+/notice",
        NOTIFICATIONS,
        "devices/+/+/#",
        CONTROL,
    ),
    *_rules(
        Purpose.SERVICE,
        Action.SUBSCRIBE,
        topics.ENROLL_REQUESTS,
        isolation.REQUESTS,
        topics.OPERATIONAL_REQUESTS,
        topics.DEVICE_STATES,
        NOTIFICATIONS,
        "devices/+/+/#",
        GUARD_EVENTS,
        GUARD_REPLIES,
        GUARD_DECISIONS,
    ),
)


def connects(purpose: Purpose) -> bool:
    """Say whether certificates of a purpose connect to a broker at all."""
    return any(rule.purpose is purpose for rule in CONNECT_RULES)


def connect_rule(who: Who) -> ConnectRule | None:
    """Return how somebody connects, by purpose and client id, or None if they do not."""
    fitting = (rule for rule in CONNECT_RULES if rule.purpose is who.purpose and _has_form(who, rule.form))
    return next(fitting, None)


def why_not(who: Who, *, keepalive_s: int, clean_session: bool) -> str | None:
    """Return why a connection must be refused, in one word, or None if it may be."""
    if not connects(who.purpose):
        return "purpose"
    rule = connect_rule(who)
    if rule is None:
        return "client-id"
    longest = rule.longest_keepalive
    if longest is not None and not 1 <= keepalive_s <= longest.total_seconds():
        return "keepalive"
    return "session" if rule.leaves is Leaves.NOTHING and not clean_session else None


def may_retain(who: Who) -> bool:
    """Say whether a connection may leave retained messages behind."""
    rule = connect_rule(who)
    return rule is not None and rule.leaves is Leaves.ALL


def may_publish(who: Who, topic: str, *, classes: Classes = DEFAULT_CLASSES) -> bool:
    """Say whether a connection may publish to a topic name."""
    return not _is_wild(topic) and _allowed(who, Action.PUBLISH, topic, classes)


def may_receive(who: Who, topic: str, *, classes: Classes = DEFAULT_CLASSES) -> bool:
    """Say whether a message on a topic name may be delivered to a connection."""
    return not _is_wild(topic) and _allowed(who, Action.SUBSCRIBE, topic, classes)


def may_subscribe(who: Who, topic_filter: str, *, classes: Classes = DEFAULT_CLASSES) -> bool:
    """Say whether a connection may subscribe to a topic filter: all of it must be its own.

    A filter that can match anything that is denied is refused, so that what is granted is what is heard.
    """
    return _allowed(who, Action.SUBSCRIBE, topic_filter, classes)


def is_protocols(who: Who, action: Action, topic: str) -> bool:
    """Say whether the rules of the protocol allow it, whatever the policy says."""
    values, levels = _values(who), topic.split("/")
    return any(
        _covers(rule.pattern.split("/"), levels, values)
        for rule in TOPIC_RULES
        if rule.purpose is who.purpose and rule.action is action
    )


def allows(who: Who, grant: Grant, action: Action, topic: str) -> bool:
    """Say whether a grant allows all that a topic name or filter can match."""
    if (grant.effect, grant.action) != (Effect.ALLOW, action):
        return False
    return _covers(grant.pattern.split("/"), topic.split("/"), _values(who))


def denies(who: Who, grant: Grant, action: Action, topic: str) -> bool:
    """Say whether a grant denies anything that a topic name or filter can match."""
    if (grant.effect, grant.action) != (Effect.DENY, action):
        return False
    return _overlaps(grant.pattern.split("/"), topic.split("/"), _values(who))


def topics_of(
    identity: Identity, *, serial: str, action: Action, grants: GrantSet | None = None
) -> tuple[str, ...]:
    """Return the topics that a device is allowed, as it is told when its certificate is issued."""
    who = Who(purpose=Purpose.DEVICE, name=identity.name, serial=serial, client_id=identity.name)
    values = _values(who)
    granted = DEFAULT_CLASSES[PLAIN_CLASS] if grants is None else grants
    patterns = [rule.pattern for rule in TOPIC_RULES if (rule.purpose, rule.action) == (who.purpose, action)]
    patterns += [
        grant.pattern for grant in granted.grants if (grant.effect, grant.action) == (Effect.ALLOW, action)
    ]
    return tuple(
        "/".join(values.get(level, level) for level in pattern.split("/"))
        for pattern in dict.fromkeys(patterns)
    )


def compiled(classes: Classes = DEFAULT_CLASSES) -> str:
    """Return all rules as the text that a broker's guard reads: header, one rule a line, `end <count>`.

    A `set` begins the grants of a purpose, with an `allow` or `deny` a line, and `class <number>` a line
    for each class that has them.
    """
    lines = [
        f"connect {rule.purpose} {rule.form} {_seconds(rule.longest_keepalive)} {rule.leaves}"
        for rule in CONNECT_RULES
    ]
    lines += [f"topic {rule.purpose} {rule.action} {rule.pattern}" for rule in TOPIC_RULES]
    for granted, numbers in _by_set(classes).items():
        lines.append(f"set {granted.purpose}")
        lines += [f"{grant.effect} {grant.action} {grant.pattern}" for grant in granted.grants]
        lines += [f"class {number}" for number in numbers]
    return "\n".join(["fleet-rules 2", *lines, f"end {len(lines)}", ""])


def _by_set(classes: Classes) -> dict[GrantSet, list[int]]:
    found: dict[GrantSet, list[int]] = {}
    for number, granted in sorted(classes.items()):
        found.setdefault(granted, []).append(number)
    return found


def _seconds(duration: timedelta | None) -> int:
    return 0 if duration is None else int(duration.total_seconds())


def _has_form(who: Who, form: ClientForm) -> bool:
    match form:
        case ClientForm.NAME:
            return who.client_id == who.name
        case ClientForm.PART:
            return who.client_id == who.name or _is_part(who.client_id, of=who.name)
        case ClientForm.SHA256:
            return _is_sha256(who.client_id)
        case ClientForm.OTHER:
            return _is_other(who.client_id)


def _is_other(client_id: str) -> bool:
    """Client ids are one space for both listeners: none of these may be a device's, `<domain>:<id>`."""
    return (
        1 <= len(client_id.encode("utf-8", "replace")) <= LONGEST_CLIENT_ID
        and not any(character < " " or character == "\x7f" for character in client_id)
        and not _is_sha256(client_id)
        and not _begins_with_domain(client_id)
    )


def _begins_with_domain(client_id: str) -> bool:
    domain, colon, _ = client_id.partition(":")
    return bool(colon) and 1 <= len(domain) <= LONGEST_DOMAIN and set(domain) <= _LABEL


def _is_part(client_id: str, *, of: str) -> bool:
    word = client_id.removeprefix(f"{of}.")
    return word != client_id and 1 <= len(word) <= 32 and set(word) <= _LABEL


def _is_sha256(text: str) -> bool:
    try:
        parse_sha256(text)
    except MalformedMessageError:
        return False
    return True


def _values(who: Who) -> dict[str, str]:
    domain, colon, device_id = who.name.partition(":")
    return {
        "{domain}": domain if colon else "",
        "{id}": device_id,
        "{serial}": who.serial,
        "{client}": who.client_id if _is_sha256(who.client_id) else "",
    }


def _is_wild(level: str) -> bool:
    return "+" in level or "#" in level


def _allowed(who: Who, action: Action, topic: str, classes: Classes) -> bool:
    if is_protocols(who, action, topic):
        return True
    granted = classes.get(who.access)
    if granted is None or granted.purpose is not who.purpose:
        return False
    return any(allows(who, grant, action, topic) for grant in granted.grants) and not any(
        denies(who, grant, action, topic) for grant in granted.grants
    )


def _overlaps(pattern: list[str], levels: list[str], values: dict[str, str]) -> bool:
    """Say whether some topic is matched by the pattern and by the filter `levels`."""
    for wanted, level in zip(pattern, levels, strict=False):
        if "#" in {wanted, level}:
            return True
        if "+" not in {wanted, level} and (values.get(wanted, wanted) or None) != level:
            return False
    # MQTT 3.1.1 4.7.1.2: `x/#` matches `x` as well.
    rest = [*pattern[len(levels) :], *levels[len(pattern) :]]
    return rest in ([], ["#"])


def _covers(pattern: list[str], levels: list[str], values: dict[str, str]) -> bool:
    """Say whether everything that the filter `levels` can match is matched by the pattern too."""
    for position, wanted in enumerate(pattern):
        if wanted == "#":
            return True
        if position == len(levels):
            return False
        if not _level_covers(wanted, levels[position], values):
            return False
        # MQTT 3.1.1 4.7.1.2: `x/#` matches `x` as well.
        if position + 1 == len(levels) and pattern[position + 1 :] == ["#"]:
            return True
    return len(pattern) == len(levels)


def _level_covers(wanted: str, level: str, values: dict[str, str]) -> bool:
    if wanted == "+":
        return level == "+" or not _is_wild(level)
    value = values.get(wanted, wanted)
    return value != "" and not _is_wild(level) and value == level
