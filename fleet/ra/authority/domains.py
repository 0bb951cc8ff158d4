"""Security domains: which there are, what each is trusted by, and who signs for its devices."""

from dataclasses import dataclass

from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.store.inventory import count_by_standing


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainView:
    """One domain."""

    name: str
    devices: int
    anchors: tuple[str, ...]
    """Hex SHA-256 of the roots that are trusted."""
    issuing: tuple[str, ...]
    """Names of the CAs that sign now, in the order in which they are taken."""


async def list_domains(context: Context) -> tuple[DomainView, ...]:
    """Return the domains of the configuration, in its order."""
    names = tuple(domain.name for domain in context.config.domains)
    counts = await context.store.read(_count, names)
    return tuple(_view(context, name, devices) for name, devices in zip(names, counts, strict=True))


async def _count(tx: Transaction, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple([sum(count for _, count in await count_by_standing(tx, name)) for name in names])


def _view(context: Context, name: str, devices: int) -> DomainView:
    authority = context.authority
    active = {issuer.issuer_id for issuer in authority.active(Purpose.DEVICE, name)}
    return DomainView(
        name=name,
        devices=devices,
        anchors=tuple(root.anchor for root in authority.anchors if root.realm == name),
        issuing=tuple(record.folder for record in authority.records if record.issuer in active),
    )
