"""Reads `[rollouts]` out of `fleet.toml`: how fast a rollout may go."""

from dataclasses import dataclass

from fleet.toml_section import Section

_MOST = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """What no plan may exceed."""

    most_per_minute: int = 3000
    """Devices told a minute, each of which has a certificate made: what this server and its CA can do."""


def read_rollouts(top: Section) -> RolloutConfig:
    """Read the table `rollouts`, at its defaults where there is none; raises `BadInputError`."""
    section, usual = top.section("rollouts"), RolloutConfig()
    found = RolloutConfig(
        most_per_minute=section.integer("most_per_minute", usual.most_per_minute, bounds=(1, _MOST))
    )
    section.close()
    return found
