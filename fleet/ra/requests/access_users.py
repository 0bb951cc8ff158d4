"""Who the admitted devices are at relying parties, by the access policy in force: page by page."""

from dataclasses import dataclass

from fleet.core.access import Who
from fleet.core.policy import roles_of, users_of
from fleet.model import AllowlistEntry
from fleet.ports import Transaction
from fleet.ra.access_rules import policy_in_force
from fleet.ra.context import Context
from fleet.store import access_classes, allowlist


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An admitted certificate with its users and roles, both sorted."""

    entry: AllowlistEntry
    users: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """A page: only higher serials, and so many."""

    serial: str = ""
    limit: int = 100


async def clients(context: Context, page: After) -> tuple[Client, ...]:
    """Return a page of the admitted certificates of devices, by serial."""
    return await context.store.read(_clients, page)


async def _clients(tx: Transaction, page: After) -> tuple[Client, ...]:
    policy = await policy_in_force(tx, None)
    facts = await access_classes.classes(tx, None)
    found: list[Client] = []
    for entry in await allowlist.page_of_devices(tx, page.serial, limit=page.limit):
        who = Who(purpose=entry.purpose, name=entry.name, serial=entry.serial, client_id=entry.name)
        known = facts.get(entry.access, {})
        users, roles = users_of(policy, who, known), roles_of(policy, known)
        found.append(Client(entry=entry, users=tuple(sorted(users)), roles=tuple(sorted(roles))))
    return tuple(found)
