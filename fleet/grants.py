"""What the access policy comes to at a broker: sets of granted and denied topics, and whose they are.

Values only: `core.policy` makes them, `core.access` judges by them, brokers carry them out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from fleet.model import Purpose


class Action(StrEnum):
    """What a topic rule is about. Who may subscribe may receive."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class Effect(StrEnum):
    """What a grant does. A denial wins over whatever allows the same, wherever each of them stands."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A pattern of topics; a level may be `{domain}`, `{id}` or `{serial}`, `+`, or a last `#`."""

    effect: Effect
    action: Action
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSet:
    """All that the policy says to certificates of one purpose that it does not tell apart."""

    purpose: Purpose
    grants: tuple[Grant, ...] = ()


Classes: TypeAlias = Mapping[int, GrantSet]
"""Grants by the number that stands in an `AllowlistEntry`; a number that is not there grants nothing."""

PLAIN_CLASS = 1
"""Of devices that the policy does not tell from others; 0 is of those that have no grants at all."""

OWN_TOPICS = "devices/{domain}/{id}/#"
DEFAULT_CLASSES: Classes = MappingProxyType(
    {
        PLAIN_CLASS: GrantSet(
            purpose=Purpose.DEVICE,
            grants=tuple(Grant(effect=Effect.ALLOW, action=action, pattern=OWN_TOPICS) for action in Action),
        )
    }
)
"""As long as nobody wrote a policy: each device has its own topics, to publish and to hear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDecision:
    """What a broker let a connection do with a topic, or not."""

    name: str
    """Broker name, `<domain>:<id>` for devices."""
    action: Action
    topic: str
    """A topic name, or a filter where it is a subscription."""
    allowed: bool
