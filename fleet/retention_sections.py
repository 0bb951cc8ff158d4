"""Reads `[retention]` out of `fleet.toml`: how long what was seen is kept.

No proof ends by it: hashes, fingerprints and dates stay for ever.
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

    audit_days: int | None = None
    """Entries of the audit trail; older ones go to files. None: for ever."""
    certificates_days: int | None = None
    """The bytes of devices' certificates, after their end. None: for ever."""

    @property
    def audit(self) -> timedelta | None:
        return None if self.audit_days is None else timedelta(days=self.audit_days)

    @property
    def certificates(self) -> timedelta | None:
        return None if self.certificates_days is None else timedelta(days=self.certificates_days)

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
        audit_days=section.integer_or_none("audit_days", bounds=(30, 36_500)),
        certificates_days=section.integer_or_none("certificates_days", bounds=(1, 36_500)),
    )
    section.close()
    return found
