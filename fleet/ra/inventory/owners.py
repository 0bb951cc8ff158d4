"""Who devices belong to: added, changed, and removed once nothing is his any more."""

from dataclasses import dataclass, replace
from datetime import datetime

from fleet.core.marking import parse_address, parse_word
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.store import audit
from fleet.store.owners import Owner, count_owned, list_owners, load_owner, save_owner

_MOST_CONTACTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    owner: Owner
    actor: str
    at: datetime
    said: frozenset[str] = frozenset()
    """What is said of one who may be known: the rest of him stays as it is."""


async def save(
    desk: Desk, owner: Owner, *, actor: str, said: frozenset[str] = frozenset({"about", "contacts"})
) -> Owner:
    """Add an owner, or change of one who is known what is `said`: `about`, `contacts`.

    Raises:
        BadInputError: his name can be none, or an address is none.
    """
    parse_word(owner.name, what="owner")
    for address in owner.contacts:
        parse_address(address)
    if len(owner.contacts) > _MOST_CONTACTS or len(set(owner.contacts)) != len(owner.contacts):
        raise BadInputError(
            f"an owner has at most {_MOST_CONTACTS} contacts, each once", hint="fleet owner list"
        )
    return await desk.store.write(_save, _Act(owner=owner, actor=actor, at=desk.clock(), said=said))


async def remove(desk: Desk, name: str, *, actor: str) -> Owner:
    """Give no more devices to an owner.

    Raises:
        NotFoundError: there is no such owner.
        RefusedError: devices are his.
    """
    owner = await show(desk, name)
    return await desk.store.write(_remove, _Act(owner=owner, actor=actor, at=desk.clock()))


async def show(desk: Desk, name: str) -> Owner:
    """Return an owner; raises `NotFoundError`."""
    owner = await desk.store.read(load_owner, name)
    if owner is None:
        raise NotFoundError(f"there is no owner {name}", hint="fleet owner list")
    return owner


async def list_all(desk: Desk) -> tuple[Owner, ...]:
    """Return all owners, by name."""
    return await desk.store.read(list_owners, None)


async def _save(tx: Transaction, act: _Act) -> Owner:
    known = await load_owner(tx, act.owner.name)
    owner = act.owner if known is None else _changed(known, act)
    if owner != known:
        await save_owner(tx, owner)
        action = "owner.added" if known is None or known.removed_at is not None else "owner.changed"
        details = (("name", owner.name), ("about", owner.about), ("contacts", " ".join(owner.contacts)))
        await audit.append(tx, AuditEntry(at=act.at, action=action, actor=act.actor, details=details))
    return owner


def _changed(known: Owner, act: _Act) -> Owner:
    told = act.owner
    return replace(
        known,
        about=told.about if "about" in act.said else known.about,
        contacts=told.contacts if "contacts" in act.said else known.contacts,
        removed_at=None,
    )


async def _remove(tx: Transaction, act: _Act) -> Owner:
    name = act.owner.name
    if owned := await count_owned(tx, name):
        raise RefusedError(
            f"{name} owns {owned} device{'' if owned == 1 else 's'}",
            hint=f"fleet device set --query owner={name} --owner OTHER",
        )
    if act.owner.removed_at is not None:
        return act.owner
    gone = replace(act.owner, removed_at=act.at.replace(microsecond=0))
    await save_owner(tx, gone)
    details = (("name", name),)
    await audit.append(tx, AuditEntry(at=act.at, action="owner.removed", actor=act.actor, details=details))
    return gone
