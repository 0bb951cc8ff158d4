"""Groups: sets of devices under a name, whose members are put in one by one, or found by a query."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.marking import parse_word
from fleet.core.query import fields_of
from fleet.core.query_text import parse_query
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.store import audit, groups
from fleet.store.groups import Group
from fleet.store.inventory import DeviceQuery, count_devices

_LONGEST_NOTE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A group, and how many devices are in it now."""

    group: Group
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    group: Group
    actor: str
    at: datetime


async def add(desk: Desk, group: Group, *, actor: str) -> GroupView:
    """Add a group; the same one again is the same.

    Raises:
        BadInputError: its name or query can be none.
        RefusedError: there is another one of that name.
    """
    parse_word(group.name, what="group")
    if len(group.note) > _LONGEST_NOTE or not group.note.isprintable():
        raise BadInputError(f"a note has at most {_LONGEST_NOTE} characters", hint="shorten it")
    if group.query is not None and "group" in fields_of(parse_query(group.query).condition):
        raise BadInputError(
            "the query of a group cannot ask for groups", hint="say in it what that group's query says"
        )
    await desk.store.write(_add, _Act(group=group, actor=actor, at=desk.clock()))
    return await show(desk, group.name)


async def remove(desk: Desk, name: str, *, actor: str) -> GroupView:
    """Forget a group that nobody is in; raises `NotFoundError`, `RefusedError`."""
    view = await show(desk, name)
    await desk.store.write(_remove, _Act(group=view.group, actor=actor, at=desk.clock()))
    return view


async def show(desk: Desk, name: str) -> GroupView:
    """Return a group; raises `NotFoundError`."""
    group = await desk.store.read(groups.load_group, name)
    if group is None:
        raise NotFoundError(f"there is no group {name}", hint="fleet group list")
    return await _viewed(desk, group)


async def list_all(desk: Desk) -> tuple[GroupView, ...]:
    """Return all groups, by name."""
    return tuple([await _viewed(desk, group) for group in await desk.store.read(groups.list_groups, None)])


async def _viewed(desk: Desk, group: Group) -> GroupView:
    members = DeviceQuery(condition=parse_query(f"group={group.name}").condition, now=desk.clock())
    return GroupView(group=group, devices=await desk.store.search(count_devices, members))


async def _add(tx: Transaction, act: _Act) -> None:
    known = await groups.load_group(tx, act.group.name)
    if known is None:
        await groups.insert_group(tx, act.group)
        details = (("name", act.group.name), ("query", act.group.query or ""), ("note", act.group.note))
        await audit.append(tx, _entry(act, "group.added", details))
    elif (known.query, known.note) != (act.group.query, act.group.note):
        raise RefusedError(
            f"there is another group {act.group.name}", hint=f"fleet group remove {act.group.name}"
        )


async def _remove(tx: Transaction, act: _Act) -> None:
    members = await groups.count_members(tx, act.group.name)
    if members:
        name = act.group.name
        raise RefusedError(
            f"{members} device{'s were' if members > 1 else ' was'} put into group {name}",
            hint=f"fleet group take {name} --query group={name}",
        )
    await groups.delete_group(tx, act.group.name)
    await audit.append(tx, _entry(act, "group.removed", (("name", act.group.name),)))


def _entry(act: _Act, action: str, details: tuple[tuple[str, str], ...]) -> AuditEntry:
    told = tuple((name, value) for name, value in details if value)
    return AuditEntry(at=act.at, action=action, actor=act.actor, details=told)
