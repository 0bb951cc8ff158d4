"""What the records say of devices, beside what the audit trail tells of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from device_agent.wire.identity import Identity
from fleet.core import trace
from fleet.model import ClientKind, Device
from fleet.ports import Transaction
from fleet.store import columns
from fleet.store.devices import load_device

PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the trail tells of a device: its changes in order, and the fingerprints of what it was issued."""

    kind: str = ""
    """As it was registered; empty where no entry tells."""
    changes: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A device on record, None where there is none, and what the trail tells of it."""

    identity: Identity
    device: Device | None
    fingerprints: Mapping[str, str]
    told: Told


async def page(tx: Transaction, after: tuple[str, str]) -> tuple[Beside, ...]:
    """Return the devices that follow a name, in the order of domain and id; start with two empty texts."""
    rows = await tx.fetch_all(
        "SELECT domain, device_id FROM devices WHERE domain > ? OR (domain = ? AND device_id > ?)"
        " ORDER BY domain, device_id LIMIT ?",
        (after[0], *after, PAGE),
    )
    return tuple([await _beside(tx, Identity(domain=str(row[0]), device_id=str(row[1]))) for row in rows])


async def missing(tx: Transaction, after: tuple[str, str]) -> tuple[Beside, ...]:
    """Return devices whose record is gone: the trail tells of a change, and there is none."""
    rows = await tx.fetch_all(
        "SELECT DISTINCT e.domain, e.device_id FROM audit_entries e"
        " JOIN audit_details d ON d.number = e.number AND d.name = ?"
        " WHERE e.domain <> '' AND e.device_id <> '' AND (e.domain > ? OR (e.domain = ? AND e.device_id > ?))"
        " AND NOT EXISTS (SELECT 1 FROM devices x WHERE x.domain = e.domain AND x.device_id = e.device_id)"
        " ORDER BY e.domain, e.device_id LIMIT ?",
        (trace.DETAIL, after[0], *after, PAGE),
    )
    return tuple([await _beside(tx, Identity(domain=str(row[0]), device_id=str(row[1]))) for row in rows])


async def _beside(tx: Transaction, identity: Identity) -> Beside:
    rows = await tx.fetch_all(
        "SELECT serial, fingerprint FROM certificates"
        " WHERE purpose = 'device' AND domain = ? AND device_id = ? AND fingerprint IS NOT NULL",
        (identity.domain, identity.device_id),
    )
    return Beside(
        identity=identity,
        device=await load_device(tx, identity),
        fingerprints={columns.text(serial): columns.text(found) for serial, found in rows},
        told=await _told(tx, identity),
    )


async def _told(tx: Transaction, identity: Identity) -> Told:
    rows = await tx.fetch_all(
        "SELECT e.action, e.serial, d.name, d.value FROM audit_entries e"
        " JOIN audit_details d ON d.number = e.number"
        " WHERE e.domain = ? AND e.device_id = ? AND d.name IN (?, 'kind', 'fingerprint')"
        " ORDER BY e.number, d.position",
        (identity.domain, identity.device_id, trace.DETAIL),
    )
    return told_by([tuple(columns.text(value) for value in row) for row in rows])


def told_by(rows: Sequence[tuple[str, ...]]) -> Told:
    """Return what entries tell: (action, serial, name of a detail, its value), in their order."""
    kinds = [value for action, _, name, value in rows if (action, name) == ("device.registered", "kind")]
    if not kinds and any(action == "certificate.adopted" for action, *_ in rows):
        kinds = [ClientKind.PLAIN.value]  # another CA's clients take part as theirs did
    return Told(
        kind=kinds[0] if kinds else "",
        changes=tuple(value for *_, name, value in rows if name == trace.DETAIL),
        fingerprints={serial: value for _, serial, name, value in rows if serial and name == "fingerprint"},
    )
