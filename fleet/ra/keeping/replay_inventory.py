"""What acts about owners, groups and devices' marks did, to be done again from their audit entries."""

from collections.abc import Mapping
from dataclasses import replace

from device_agent.wire.identity import Identity, parse_name
from fleet.core.marking import ATTRIBUTE_DETAIL, Marks
from fleet.core.moving import Move, MoveKind, MoveState
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.store import groups, moves, owners
from fleet.store.devices import load_record
from fleet.store.groups import Group
from fleet.store.marks import marks_of, save_marks
from fleet.store.moves import MoveQuery
from fleet.store.owners import Owner


async def save_owner(tx: Transaction, entry: AuditEntry) -> None:
    """Bring an owner back as he was added or changed."""
    details = dict(entry.details)
    known = await owners.load_owner(tx, details["name"])
    owner = Owner(
        name=details["name"],
        about=details.get("about", ""),
        contacts=tuple(details.get("contacts", "").split()),
        added_at=entry.at if known is None else known.added_at,
    )
    await owners.save_owner(tx, owner)


async def remove_owner(tx: Transaction, entry: AuditEntry) -> None:
    """Give no more devices to an owner."""
    known = await owners.load_owner(tx, dict(entry.details)["name"])
    if known is not None:
        await owners.save_owner(tx, replace(known, removed_at=entry.at))


async def add_group(tx: Transaction, entry: AuditEntry) -> None:
    """Bring a group back; who was put in comes with the entries of the devices."""
    details = dict(entry.details)
    if await groups.load_group(tx, details["name"]) is None:
        group = Group(
            name=details["name"],
            query=details.get("query"),
            note=details.get("note", ""),
            made_at=entry.at,
        )
        await groups.insert_group(tx, group)


async def remove_group(tx: Transaction, entry: AuditEntry) -> None:
    """Forget a group."""
    await groups.delete_group(tx, dict(entry.details)["name"])


async def mark_device(tx: Transaction, entry: AuditEntry) -> None:
    """Bring back what operators have said of a device."""
    identity = Identity(domain=entry.domain, device_id=entry.device_id)
    if await load_record(tx, identity) is not None:
        before = await marks_of(tx, identity)
        after = _told(before, dict(entry.details))
        await save_marks(tx, identity, before, after=after, source=entry.actor)


def _told(before: Marks, details: Mapping[str, str]) -> Marks:
    attributes = dict(before.attributes)
    for name, value in details.items():
        if name.startswith(ATTRIBUTE_DETAIL):
            attributes[name.removeprefix(ATTRIBUTE_DETAIL)] = value
    return Marks(
        model=details.get("model", before.model),
        owner=details.get("owner", before.owner),
        version=before.version,
        tags=tuple(details["tags"].split()) if "tags" in details else before.tags,
        groups=tuple(details["groups"].split()) if "groups" in details else before.groups,
        attributes=tuple(sorted((name, value) for name, value in attributes.items() if value)),
    )


async def follow_move(tx: Transaction, entry: AuditEntry) -> None:
    """Bring a move to where the trail left it; what became of the devices stands in entries of their own."""
    details = dict(entry.details)
    number = int(details["number"])
    known = await moves.list_moves(tx, MoveQuery(after=number - 1, limit=1))
    move = Move(
        number=number,
        kind=MoveKind(details["kind"]),
        state=MoveState(details["state"]),
        identity=parse_name(details["from"]),
        target=parse_name(details["to"]),
        above=details.get("above", ""),
        started_at=known[0].started_at if known and known[0].number == number else entry.at,
        started_by=details["started_by"],
        changed_at=entry.at,
    )
    await moves.save_move(tx, move)
