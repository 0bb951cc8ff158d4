"""Reads the profiles of a domain: its own settings, and the tables that differ from them.

[domains.prod]                      the profile `device`, which devices have by default
[domains.prod.profiles.gateway]     another, which says only where it differs
"""

from dataclasses import replace
from datetime import timedelta

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core.goodkey import CLASSIC, POST_QUANTUM, KeyType
from fleet.core.names import fault_of
from fleet.core.profile import DEFAULT_PROFILES, Profile, Usage
from fleet.model import Assurance, Purpose
from fleet.toml_section import Section

_MOST_NAMES = 8
_USAGES = ({Usage.CLIENT_AUTH}, {Usage.CLIENT_AUTH, Usage.SERVER_AUTH})
_LEVELS = {level.word: level for level in Assurance}


def read_profiles(section: Section, *, ca_key: KeyType, fleet: str) -> tuple[Profile, ...]:
    """Read the profiles of a domain whose authorities have keys of a type; the default comes first.

    Raises:
        BadInputError: with its line and what to do.
    """
    default = DEFAULT_PROFILES[Purpose.DEVICE]
    fitting = POST_QUANTUM if ca_key in POST_QUANTUM else CLASSIC
    if ca_key in POST_QUANTUM:
        default = replace(default, key_types=POST_QUANTUM)
    own = _profile(section, default, fitting, fleet)
    table = section.section("profiles")
    others = []
    for name in table.names():
        below = table.section(name)
        _require_name(below, name, taken=own.name)
        others.append(_profile(below, replace(own, name=name), fitting, fleet))
        below.close()
    return (own, *others)


def _require_name(section: Section, name: str, *, taken: str) -> None:
    try:
        parse_domain(name)
    except MalformedMessageError as error:
        raise section.error(
            None, f"profile {error}", hint="such as [domains.prod.profiles.gateway]"
        ) from error
    if name == taken:
        raise section.error(
            None, f"the profile {taken} is the domain's own", hint="say it in the domain's own table"
        )


def _profile(section: Section, base: Profile, fitting: frozenset[KeyType], fleet: str) -> Profile:
    """Read what a table says of a profile; what it does not say is as in `base`."""
    renew_from, renew_spread = _renewal(section, base)
    return replace(
        base,
        key_types=_key_types(section, base, fitting),
        rsa_bits=section.integer("rsa_bits", base.rsa_bits, bounds=(2048, 4096)),
        lifetime=timedelta(days=section.integer("lifetime_days", base.lifetime.days, bounds=(1, 3650))),
        backdate=timedelta(
            minutes=section.integer("backdate_minutes", _minutes(base.backdate), bounds=(0, 1440))
        ),
        extended_key_usage=_usages(section, base),
        names=_names(section, base, fleet),
        same_key=section.flag("same_key", default=base.same_key),
        approval=section.flag("approval", default=base.approval),
        assurance=section.choice("assurance", base.assurance, choices=_LEVELS),
        by_label=section.flag("by_label", default=base.by_label),
        server_key=section.flag("server_key", default=base.server_key),
        renew_from=renew_from,
        renew_spread=renew_spread,
    )


def _key_types(section: Section, base: Profile, fitting: frozenset[KeyType]) -> frozenset[KeyType]:
    found = frozenset(section.words("key_types", sorted(base.key_types), words=KeyType))
    if found <= fitting:
        return found
    raise section.error(
        "key_types",
        f"{min(found - fitting)} is not for a domain with these authorities: {', '.join(sorted(fitting))}",
        hint='a domain is post-quantum as a whole: ca_key = "ml-dsa-44"',
    )


def _usages(section: Section, base: Profile) -> tuple[Usage, ...]:
    found = section.words("usages", base.extended_key_usage, words=Usage)
    if set(found) in _USAGES:
        return found
    raise section.error(
        "usages", "a device's certificate is for clientAuth", hint='it may add "serverAuth", and no other'
    )


def _names(section: Section, base: Profile, fleet: str) -> tuple[str, ...]:
    patterns = section.texts("names", base.names, most=_MOST_NAMES)
    for pattern in patterns:
        if (fault := fault_of(pattern, fleet=fleet)) is not None:
            raise section.error("names", f"{pattern!r}: {fault}", hint='such as "{id}.gateways.example.org"')
    return patterns


def _renewal(section: Section, base: Profile) -> tuple[float, float]:
    start = section.fraction("renew_from", base.renew_from, bounds=(0.1, 0.95))
    spread = section.fraction("renew_spread", base.renew_spread, bounds=(0, 0.5))
    if start + spread < 1:
        return start, spread
    raise section.error(
        "renew_from", "some devices would renew after their end", hint="renew_from + renew_spread is below 1"
    )


def _minutes(time: timedelta) -> int:
    return int(time.total_seconds() // 60)
