"""Compares each device's record with what the audit trail tells of it: whoever writes the database is seen.

The trail's hashes prove the trail. This proves that the records, by which brokers let in, are what it tells.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from device_agent.wire.problems import MalformedMessageError
from fleet.core import trace
from fleet.model import ClientKind, Device
from fleet.ports import Work
from fleet.ra.context import Context
from fleet.ra.people.trail import entries, trail_of
from fleet.store import audit_archive, reconciling
from fleet.store.reconciling import Beside, Told, told_by

_Archived = Mapping[tuple[str, str], Told]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What of a device's record the trail does not tell; `what` are the members, by the trail's names."""

    name: str
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """How many devices were compared, and which are not what the trail tells."""

    devices: int
    differences: tuple[Difference, ...]


async def reconcile(context: Context) -> Reconciled:
    """Compare all devices.

    Raises:
        NotFoundError, NeedsAttentionError: part of the trail is archived, and its file missing or damaged.
    """
    archived = await _archived(context)
    count, found = 0, list[Difference]()
    for find in (reconciling.page, reconciling.missing):
        async for beside in _all(context, find):
            count += 1
            if what := tuple(_differences(beside, archived.get(_key(beside), Told()))):
                found.append(Difference(name=beside.identity.name, what=what))
    return Reconciled(devices=count, differences=tuple(found))


async def _all(context: Context, find: Work[tuple[str, str], tuple[Beside, ...]]) -> AsyncIterator[Beside]:
    after = ("", "")
    while page := await context.store.read(find, after):
        for beside in page:
            yield beside
        after = _key(page[-1])


def _key(beside: Beside) -> tuple[str, str]:
    return beside.identity.domain, beside.identity.device_id


async def _archived(context: Context) -> _Archived:
    """Return what archived entries tell, by device; nothing where nothing was archived."""
    end = await context.store.read(audit_archive.end, None)
    rows: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    if end:
        async for page in entries(trail_of(context), after=-1):
            for stored in page:
                entry = stored.entry
                if stored.number < end and entry.device_id:
                    kept = rows.setdefault((entry.domain, entry.device_id), [])
                    kept += [(entry.action, entry.serial, *detail) for detail in entry.details]
            if page[-1].number >= end:
                break
    return {key: told_by(kept) for key, kept in rows.items()}


def _differences(beside: Beside, earlier: Told) -> Iterator[str]:
    try:
        told = _followed(beside, earlier)
    except MalformedMessageError as error:
        yield f"the trail cannot be followed: {error}"
        return
    if beside.device is None:
        yield "the record is gone"
        return
    changes = trace.changes(told, beside.device, origins={})
    members: Mapping[str, object] = json.loads(changes) if changes else {}
    yield from sorted(members)
    fingerprints = {**earlier.fingerprints, **beside.told.fingerprints}
    for serial, found in sorted(beside.fingerprints.items()):
        if fingerprints.get(serial) != found:
            yield f"fingerprint of {serial}"


def _followed(beside: Beside, earlier: Told) -> Device:
    kind = earlier.kind or beside.told.kind or ClientKind.AGENT
    device = Device(identity=beside.identity, kind=ClientKind(kind))
    for text in (*earlier.changes, *beside.told.changes):
        device = trace.follow(device, text).device
    return device
