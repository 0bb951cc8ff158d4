"""What is known of one device of a rollout, and what that means: it arrived, failed, went, or stayed silent.

Every device is asked the same few questions, in the order of `QUESTIONS`; the first answer counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from fleet.core.rollout import DeviceEvent, DeviceState, RolloutKind


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """One device of a rollout as the records have it now."""

    state: DeviceState
    told_at: datetime | None
    baseline: str
    """The certificate that was current when it was told."""
    was: str = ""
    out_of_service: str = ""
    """Why it is; empty where it is in service."""
    serial: str = ""
    """Its current certificate."""
    is_active: bool = False
    """Whether that was confirmed and has not ended."""
    profile: str = ""
    """By which that certificate was made."""
    issuer: str = ""
    held: int = 0
    """The version of the bundle, or the number of the configuration, that it says it has."""
    trouble: str = ""
    """What it was refused with, or says is wrong, since it was told."""
    seen_at: datetime | None = None
    """When it last connected."""
    has_asked: bool = False
    """A certificate was made for it since it was told."""
    is_online: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What devices are to come back with."""

    kind: RolloutKind
    target: str = ""
    """The profile, the issuing CA's key identifier, the version of the bundle or the number of settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What became known of a device."""

    event: DeviceEvent
    reason: str = ""


Question: TypeAlias = Callable[[Aim, DeviceFacts], Heard | None]

_BY_WORD = frozenset({RolloutKind.TRUST, RolloutKind.CONFIGURATION})
"""Kinds of which the device itself tells, and no certificate does."""


def has_arrived(aim: Aim, facts: DeviceFacts) -> Heard | None:
    """Ask whether it uses what is new: a confirmed certificate, or what it says of itself."""
    if aim.kind in _BY_WORD:
        return Heard(event=DeviceEvent.ARRIVED) if facts.held >= int(aim.target) else None
    if not _has_renewed(facts) or _mismatch(aim, facts):
        return None
    return Heard(event=DeviceEvent.ARRIVED)


def has_gone(_aim: Aim, facts: DeviceFacts) -> Heard | None:
    """Ask whether it is out of service."""
    return Heard(event=DeviceEvent.GONE, reason=facts.out_of_service) if facts.out_of_service else None


def came_otherwise(aim: Aim, facts: DeviceFacts) -> Heard | None:
    """Ask whether it has renewed, and got something else than it should."""
    if aim.kind in _BY_WORD or not _has_renewed(facts) or not (mismatch := _mismatch(aim, facts)):
        return None
    return Heard(event=DeviceEvent.TROUBLE, reason=mismatch)


def is_in_trouble(_aim: Aim, facts: DeviceFacts) -> Heard | None:
    """Ask whether it was refused, or says that it has failed."""
    return Heard(event=DeviceEvent.TROUBLE, reason=facts.trouble) if facts.trouble else None


QUESTIONS: tuple[Question, ...] = (has_arrived, has_gone, came_otherwise, is_in_trouble)


def hear(aim: Aim, facts: DeviceFacts) -> Heard | None:
    """Return what is known of a device that was told; None where nothing new is."""
    return next((found for ask in QUESTIONS if (found := ask(aim, facts)) is not None), None)


def out_of_patience(aim: Aim, facts: DeviceFacts) -> Heard:
    """Return what a device's time to answer has shown: one that was there has failed, any other was away.

    Who took a new certificate and was not seen with it was there, and may be lost: it counts as failed.
    """
    if (found := hear(aim, facts)) is not None:
        return found
    if facts.has_asked:
        return Heard(event=DeviceEvent.TROUBLE, reason="got a new certificate, and did not come back with it")
    seen = facts.told_at is not None and facts.seen_at is not None and facts.seen_at >= facts.told_at
    if facts.is_online or seen:
        return Heard(event=DeviceEvent.TROUBLE, reason="was there, and did not take what is new")
    return Heard(event=DeviceEvent.SILENT, reason="was not there since it was told")


def _has_renewed(facts: DeviceFacts) -> bool:
    return facts.is_active and facts.serial > facts.baseline


def _mismatch(aim: Aim, facts: DeviceFacts) -> str:
    if aim.kind is RolloutKind.PROFILE and facts.profile != aim.target:
        return f"renewed by the profile {facts.profile}"
    if aim.kind is RolloutKind.CA and facts.issuer != aim.target:
        return f"renewed below the CA {facts.issuer}"
    return ""
