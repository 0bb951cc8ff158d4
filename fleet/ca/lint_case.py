"""What the lint judges: a certificate, and what it ought to be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from cryptography import x509

from fleet.core.profile import Template

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A certificate to judge, and what it ought to be."""

    certificate: x509.Certificate
    template: Template
    serial: str
    issuer: x509.Certificate | None
    """None for a root."""
    fleet: str
    domain: str
    """The issuing CA's; empty where it serves the whole fleet."""
    station: str = ""
    """The station that the issuing CA is of, where it signs off line."""


Rule: TypeAlias = Callable[[Case], str | None]
"""Returns what is wrong, with its clause; None if nothing is."""


def value_of(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Return the extension of a kind, if it is there."""
    # By identifier: asking each extension for its class costs as much as all the rules together.
    for extension in certificate.extensions:
        if extension.oid == kind.oid and isinstance(extension.value, kind):
            return extension.value
    return None
