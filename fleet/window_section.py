"""Reads `[windows]` out of `fleet.toml`: how an outage is made up for."""

from dataclasses import dataclass
from datetime import timedelta

from fleet.toml_section import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsConfig:
    """At which pace renewals are made up for that an outage has held up."""

    a_second: int = 50
    """Renewals a second; more only where certificates would end before they are renewed."""
    outage_minutes: int = 60
    """A shorter time in which nothing could be renewed is left to the devices' own retries."""

    @property
    def outage(self) -> timedelta:
        return timedelta(minutes=self.outage_minutes)


def read_windows(section: Section) -> WindowsConfig:
    """Read the table `windows`, at its defaults where there is none; raises `BadInputError`."""
    usual = WindowsConfig()
    windows = WindowsConfig(
        a_second=section.integer("a_second", usual.a_second, bounds=(1, 100_000)),
        outage_minutes=section.integer("outage_minutes", usual.outage_minutes, bounds=(5, 10_080)),
    )
    section.close()
    return windows
