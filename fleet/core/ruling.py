"""What the profiles of a domain say to one request: which of them it is for, and whether it may have it.

The live service and the dry run over recorded requests both ask here, so that one cannot differ from the
other. It sees facts alone, none of them secret: proofs, keys and the life of a certificate are judged
elsewhere, before and after.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core.goodkey import POST_QUANTUM, KeyType
from fleet.core.names import Subject
from fleet.core.profile import Applicant, Profile, profiled_applicant
from fleet.errors import RefusedError
from fleet.model import Assurance


class Step(StrEnum):
    """Which certificate of a lineage is asked for."""

    FIRST = "first"
    NEXT = "next"


class Channel(StrEnum):
    """By what way, as far as it matters here."""

    MQTT = "mqtt"
    OTHER = "other"


class Outcome(StrEnum):
    """What a ruling says."""

    GRANTED = "granted"
    WAITS = "waits"
    """Somebody has to approve."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a request when the profiles are asked."""

    step: Step
    channel: Channel
    identity: Identity
    key_type: KeyType
    rsa_bits: int = 0
    """Of an RSA key."""
    assurance: Assurance
    label: str = ""
    """The profile that the address of the request named, as EST's labels do."""
    device_profile: str = ""
    """What our records say of the device, and of its batch; empty where they say nothing."""
    batch_profile: str = ""
    batch: str = ""
    hardware: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    """What names can be made of: the device's own word is not among it."""
    is_approved: bool = False
    """Somebody let this device in with this very key."""
    keeps_key: bool = False
    """It asks to renew with the key in use."""
    may_keep_key: bool = False
    """It is of a kind that can: agents count their keys."""
    expired_for: timedelta | None = None
    """Since the certificate to be renewed ended; None where that decides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the configuration says, by domain."""

    fleet: str
    profiles: Mapping[str, tuple[Profile, ...]]
    """The default of each domain comes first."""
    grace: timedelta

    def profile(self, domain: str, name: str) -> Profile | None:
        """Return a profile of a domain by its name, or None."""
        return next((one for one in self.profiles.get(domain, ()) if one.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a certificate would hold."""

    identity: Identity
    profile: Profile
    applicant: Applicant

    def told(self) -> tuple[tuple[str, str], ...]:
        """Return them for people, so that two can be compared."""
        profile = self.profile
        return (
            ("profile", profile.name),
            ("lifetime_days", str(profile.lifetime.days)),
            ("backdate_minutes", str(int(profile.backdate.total_seconds() // 60))),
            ("usages", " ".join(profile.extended_key_usage)),
            ("names", " ".join(self.applicant.dns_names)),
            ("renew_from", f"{profile.renew_from:.2f}"),
            ("renew_spread", f"{profile.renew_spread:.2f}"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the profiles say: the terms, or why there are none."""

    outcome: Outcome
    terms: Terms | None = None
    code: ProblemCode | None = None
    reason: str = ""


def rule(rules: Rules, facts: Facts) -> Ruling:
    """Return what the profiles say to a request. The same facts always get the same answer."""
    if facts.identity.domain not in rules.profiles:
        return _refusal(ProblemCode.NOT_ALLOWED, f"there is no domain {facts.identity.domain}")
    name, why_not = _choice(rules, facts)
    profile = rules.profile(facts.identity.domain, name)
    if why_not or profile is None:
        reason = why_not or f"the profile {name} is not in the configuration"
        return _refusal(ProblemCode.NOT_ALLOWED, reason)
    for check in _CHECKS:
        if (fault := check(profile, facts, rules)) is not None:
            return _refusal(*fault)
    subject = Subject(
        identity=facts.identity,
        fleet=rules.fleet,
        batch=facts.batch,
        hardware=facts.hardware,
        attributes=facts.attributes,
    )
    try:
        applicant = profiled_applicant(profile, subject)
    except RefusedError as error:
        return _refusal(error.code, str(error))
    terms = Terms(identity=facts.identity, profile=profile, applicant=applicant)
    waits = profile.approval and facts.step is Step.FIRST and not facts.is_approved
    return Ruling(outcome=Outcome.WAITS if waits else Outcome.GRANTED, terms=terms)


def _choice(rules: Rules, facts: Facts) -> tuple[str, str]:
    """Return the name of the profile, and why it is not to be had. What our records say goes first."""
    recorded = facts.device_profile or facts.batch_profile
    default = rules.profiles[facts.identity.domain][0].name
    if facts.label in {"", recorded or default}:
        return recorded or default, ""
    labelled = rules.profile(facts.identity.domain, facts.label)
    # A label is the asker's own word: it must not get a device what nobody gave it.
    if recorded or labelled is None or not labelled.by_label:
        return facts.label, f"the profile {facts.label} is not for {facts.identity.name} to choose"
    return facts.label, ""


_Fault: TypeAlias = tuple[ProblemCode, str]


def _key_type(profile: Profile, facts: Facts, _rules: Rules) -> _Fault | None:
    if facts.key_type not in profile.key_types:
        allowed = ", ".join(sorted(profile.key_types))
        return ProblemCode.BAD_KEY, f"the profile {profile.name} takes keys of type {allowed}"
    if facts.key_type is KeyType.RSA and facts.rsa_bits < profile.rsa_bits:
        reason = f"the profile {profile.name} takes RSA keys of {profile.rsa_bits} bits or more"
        return ProblemCode.BAD_KEY, reason
    return None


def _usable(_profile: Profile, facts: Facts, _rules: Rules) -> _Fault | None:
    if facts.key_type in POST_QUANTUM and facts.channel is Channel.MQTT:
        reason = f"{facts.key_type} opens no MQTT connection today: ask over EST, or with a key of type p256"
        return ProblemCode.BAD_KEY, reason
    return None


def _same_key(profile: Profile, facts: Facts, _rules: Rules) -> _Fault | None:
    if facts.keeps_key and not (facts.may_keep_key and profile.same_key):
        return ProblemCode.KEY_IN_USE, "renewal takes a new key"
    return None


def _assured(profile: Profile, facts: Facts, _rules: Rules) -> _Fault | None:
    if facts.assurance < profile.assurance:
        proved, needed = facts.assurance.word, profile.assurance.word
        reason = f"the profile {profile.name} needs the assurance {needed}, and {proved} was proved"
        return ProblemCode.NOT_ALLOWED, reason
    return None


def _in_grace(_profile: Profile, facts: Facts, rules: Rules) -> _Fault | None:
    if facts.expired_for is not None and facts.expired_for > rules.grace:
        ended, grace = facts.expired_for.days, rules.grace.days
        return ProblemCode.NOT_CURRENT, f"the certificate ended {ended} days ago, and the grace is {grace}"
    return None


_CHECKS: tuple[Callable[[Profile, Facts, Rules], _Fault | None], ...] = (
    _key_type,
    _usable,
    _same_key,
    _assured,
    _in_grace,
)


def _refusal(code: ProblemCode, reason: str) -> Ruling:
    return Ruling(outcome=Outcome.REFUSED, code=code, reason=reason)
