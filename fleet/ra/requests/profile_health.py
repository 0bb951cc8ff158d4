"""Finds what our records assign and the configuration lacks: such devices get no certificate any more."""

from collections.abc import Sequence

from fleet.config import Config
from fleet.ra.context import Context
from fleet.ra.finding import Finding, bad, good
from fleet.store.inventory import Assigned, assigned_profiles

_CHECK = "profiles"


async def profiles(context: Context) -> list[Finding]:
    """Check that every profile that is assigned is in force."""
    lost = lacking(context.config, await context.store.read(assigned_profiles, None))
    if not lost:
        number = sum(len(domain.profiles) for domain in context.config.domains)
        return [good(_CHECK, f"{number} in force, and all that are assigned among them")]
    fix = "add it to fleet.toml, or choose another: fleet profile assign"
    return [bad(_CHECK, told(each), fix=fix) for each in lost]


def lacking(config: Config, assigned: Sequence[Assigned]) -> list[Assigned]:
    """Return what is assigned in a domain of a configuration that has no such profile."""
    known = {(domain.name, profile.name) for domain in config.domains for profile in domain.profiles}
    names = {domain.name for domain in config.domains}
    return [each for each in assigned if each.domain in names and (each.domain, each.profile) not in known]


def told(lost: Assigned) -> str:
    """Return in words what is lacking, and for how many."""
    return (
        f"{lost.domain} has no profile {lost.profile},"
        f" which {lost.devices} devices and {lost.batches} batches are to get"
    )
