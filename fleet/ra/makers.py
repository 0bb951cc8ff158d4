"""Whom each domain believes about its devices' hardware: makers of devices, of TPMs, and of PIV tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from cryptography import x509

from fleet.attest.chains import Anchors
from fleet.attest.idevid import Maker
from fleet.attest.piv import PivMaker
from fleet.config import Config
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError
from fleet.proof_sections import Unregistered

_MOST = 256
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Makers:
    """By domain; one that is not in here believes nobody."""

    manufacturers: Mapping[str, tuple[Maker, ...]] = field(default_factory=lambda: MappingProxyType({}))
    vendors: Mapping[str, tuple[Anchors, ...]] = field(default_factory=lambda: MappingProxyType({}))

    piv_makers: Mapping[str, tuple[PivMaker, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def idevids(self, domain: str) -> tuple[Maker, ...]:
        """Return the manufacturers of a domain."""
        return self.manufacturers.get(domain, ())

    def tpms(self, domain: str) -> tuple[Anchors, ...]:
        """Return the TPM vendors of a domain."""
        return self.vendors.get(domain, ())

    def pivs(self, domain: str) -> tuple[PivMaker, ...]:
        """Return the makers of PIV tokens of a domain, with what of theirs is enough."""
        return self.piv_makers.get(domain, ())

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """All manufacturers' anchors: clients may show certificates below them in TLS."""
        makers = (maker for found in self.manufacturers.values() for maker in found)
        return tuple(dict.fromkeys(one for maker in makers for one in maker.anchors.certificates))


def load_makers(config: Config, *, root: Path) -> Makers:
    """Read the anchors that a configuration names, relative to the fleet home.

    Raises:
        BadInputError: a file cannot be read, or holds no certificates.
    """
    return Makers(
        manufacturers={
            domain.name: tuple(
                Maker(
                    anchors=_anchors(each.name, root / each.anchors),
                    rule=each.device_id,
                    prefix=each.prefix,
                    may_register=each.unregistered is Unregistered.ADMIT,
                )
                for each in domain.proofs.manufacturers
            )
            for domain in config.domains
        },
        vendors={
            domain.name: tuple(_anchors(each.name, root / each.anchors) for each in domain.proofs.tpm_vendors)
            for domain in config.domains
        },
        piv_makers={
            domain.name: tuple(
                PivMaker(anchors=_anchors(each.name, root / each.anchors), rules=each.rules)
                for each in domain.proofs.piv_makers
            )
            for domain in config.domains
        },
    )


def _anchors(name: str, path: Path) -> Anchors:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be read: {(error.strerror or '').lower()}",
            hint=f"see anchors of {name} in fleet.toml",
        ) from error
    try:
        found = x509.load_pem_x509_certificates(content[:_MOST_BYTES])
    except UNREADABLE as error:
        raise BadInputError(f"{path} holds no certificates in PEM", hint="is it the right file?") from error
    if len(content) > _MOST_BYTES or len(found) > _MOST:
        raise BadInputError(f"{path} holds more than {_MOST} certificates", hint="is it the right file?")
    return Anchors(name=name, certificates=tuple(found))
