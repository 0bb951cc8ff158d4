"""Puts changed profiles and policy in force while the server runs; what else changed waits for a restart."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleet import config as configuration
from fleet.config import Config
from fleet.core.profile import Profile
from fleet.errors import BadInputError, RefusedError
from fleet.model import AuditEntry
from fleet.ra.context import Context
from fleet.ra.requests.profile_health import lacking, told
from fleet.store import audit
from fleet.store.inventory import assigned_profiles

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What is in force now."""

    changed: bool
    profiles: int


def proposed(context: Context, text: str) -> Config:
    """Return the configuration of a text, or of the home's file where the text is empty.

    Raises:
        BadInputError: with its line and what to do.
    """
    found = configuration.parse(text, source="the file") if text.strip() else _of_home(context)
    if found.fleet != context.fleet:
        raise BadInputError(
            f"this is the configuration of the fleet {found.fleet}", hint=f"name one of {context.fleet}"
        )
    return found


async def apply_policy(context: Context, *, actor: str) -> Applied:
    """Read fleet.toml anew, and put its profiles and its policy in force.

    Raises:
        BadInputError: it is not right, or changes more than that; what was in force stays so.
        RefusedError: it lacks a profile that devices are to get.
    """
    async with context.in_force.changing:
        before, wanted = context.config, _of_home(context)
        after = _with_policy(before, wanted)
        if after != wanted:
            raise BadInputError(
                "fleet.toml changes more than profiles and [policy]",
                hint="stop the server, and start it again: fleet serve",
            )
        if lost := lacking(after, await context.store.read(assigned_profiles, None)):
            raise RefusedError(told(lost[0]), hint="fleet profile assign, or clear, chooses another first")
        if after != before:
            await context.store.write(audit.append, _entry(context, _changes(before, after), actor))
            context.in_force.replace(config=after)
    profiles = sum(len(domain.profiles) for domain in after.domains)
    return Applied(changed=after != before, profiles=profiles)


def _with_policy(before: Config, wanted: Config) -> Config:
    """Return what is in force with the profiles and the policy that are wanted."""
    named = {domain.name: domain for domain in wanted.domains}
    domains = tuple(
        replace(domain, profiles=named[domain.name].profiles) if domain.name in named else domain
        for domain in before.domains
    )
    return replace(before, policy=wanted.policy, domains=domains)


def _of_home(context: Context) -> Config:
    return configuration.load(context.home.config)


def _entry(context: Context, changed: list[str], actor: str) -> AuditEntry:
    named = ", ".join(changed[:_MOST_NAMED])
    left = len(changed) - _MOST_NAMED
    return AuditEntry(
        at=context.clock(),
        action="policy.applied",
        actor=actor,
        details=(("changed", f"{named} and {left} more" if left > 0 else named),),
    )


def _changes(before: Config, after: Config) -> list[str]:
    """Return the names of the profiles that differ, and `policy` if that does."""
    was, now = _profiles(before), _profiles(after)
    names = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    return names if before.policy == after.policy else [*names, "policy"]


def _profiles(config: Config) -> Mapping[str, Profile]:
    return {
        f"{domain.name}.{profile.name}": profile for domain in config.domains for profile in domain.profiles
    }
