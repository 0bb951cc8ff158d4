"""Reads `[retention]` out of `fleet.toml`: how long what was seen is kept.

Nothing here is about proof of a decision: that is on the audit trail.
"""

from dataclasses import dataclass
from datetime import timedelta

from fleet.toml_section import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """How long what was seen is kept, and how much of it."""

    connections_days: int = 90
    """Connections, their ends and refusals."""
    connections_per_device: int = 1000
    """Rows of the connection history that a device may have; all strangers together, twenty times that."""

    @property
    def connections(self) -> timedelta:
        return timedelta(days=self.connections_days)


def read_retention(section: Section) -> RetentionConfig:
    """Read the table `retention`; raises `BadInputError`."""
    usual = RetentionConfig()
    found = RetentionConfig(
        connections_days=section.integer("connections_days", usual.connections_days, bounds=(1, 3650)),
        connections_per_device=section.integer(
            "connections_per_device", usual.connections_per_device, bounds=(10, 100_000)
        ),
    )
    section.close()
    return found
