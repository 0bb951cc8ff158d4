"""Reads `[acts]` out of `fleet.toml`: which acts need a second operator, and how long they wait for one."""

from dataclasses import dataclass, field
from datetime import timedelta

from fleet.core.proposal import DELIBERATE, ActKind, SecondPersonRule
from fleet.core.second_factor import CodedAct
from fleet.toml_section import Section

_MANY = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ActsConfig:
    """How far one operator goes alone."""

    second: SecondPersonRule = field(default_factory=SecondPersonRule)
    proposal_hours: int = 72
    """How long a proposal waits for somebody else."""
    drift_percent: int = 5
    """A selection that has changed by more than that since it was shown is not acted on."""

    code_for: frozenset[CodedAct] = frozenset()
    """Acts that need a code of the operator's second factor, too."""

    @property
    def proposal_lifetime(self) -> timedelta:
        return timedelta(hours=self.proposal_hours)


def read_acts(top: Section) -> ActsConfig:
    """Read the table `acts`, at its defaults where there is none; raises `BadInputError`."""
    section, usual = top.section("acts"), ActsConfig()
    acts = ActsConfig(
        second=_second(section, usual.second),
        proposal_hours=section.integer("proposal_hours", usual.proposal_hours, bounds=(1, 720)),
        drift_percent=section.integer("drift_percent", usual.drift_percent, bounds=(0, 100)),
        code_for=frozenset(section.words("code_for", (), words=CodedAct)),
    )
    section.close()
    return acts


def _second(section: Section, usual: SecondPersonRule) -> SecondPersonRule:
    always = frozenset(section.words("always", (), words=ActKind))
    if not always <= DELIBERATE:
        raise section.error(
            "always",
            f"always may hold {', '.join(sorted(DELIBERATE))}: a stolen device is kept out at once",
            hint="devices = 1 lets every larger act wait",
        )
    return SecondPersonRule(
        devices=section.integer("devices", usual.devices, bounds=(1, _MANY)),
        percent=section.integer("percent", usual.percent, bounds=(0, 100)),
        percent_from=section.integer("percent_from", usual.percent_from, bounds=(1, _MANY)),
        always=always,
    )
