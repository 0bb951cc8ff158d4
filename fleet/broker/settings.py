"""What both drivers are told by whoever composes them: files, addresses, life cycle.

The files belong to the fleet home; a driver writes only into its own folder.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Mode(StrEnum):
    """Who starts and stops the broker's process."""

    MANAGED = "managed"
    """We do; it goes on when we end."""
    EXTERNAL = "external"
    """Somebody else, with the configuration that we wrote; we only talk to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryFiles:
    """A certificate that was revoked at birth, and its key: a broker that lets it in reads no CRL."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedFiles:
    """CAs that are not ours, and the CRLs that they made, in PEM; a file that is not there holds nothing."""

    authorities: Path
    crls: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFiles:
    """Where a driver finds what it needs; all in PEM, keys unencrypted and 0600.

    `*_roots` are the trust anchors of a listener, `*_issuers` the issuing CAs whose leaves connect
    there. The bootstrap listener trusts the bootstrap root alone, and the operational one everything
    but it, so that TLS itself keeps claims and devices apart.
    """

    folder: Path
    certificate: Path
    key: Path
    operational_roots: Path
    bootstrap_roots: Path
    operational_issuers: Path
    bootstrap_issuers: Path
    server_trust: Path
    service_certificate: Path
    service_key: Path
    adopted: AdoptedFiles | None = None
    """Of other authorities, whose devices connect to the operational listener as well."""
    canaries: tuple[CanaryFiles, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Where the broker listens, and the name that its certificate holds; port 0 picks a free one."""

    bind: str = "127.0.0.1"
    host: str = "localhost"
    operational_port: int = 8883
    bootstrap_port: int = 8884


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEndpoints:
    """Where the broker answers."""

    host: str
    operational_port: int
    bootstrap_port: int
