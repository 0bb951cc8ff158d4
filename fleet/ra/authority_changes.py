"""What happens to a CA, on record: one event, judged by the table, with its entry on the audit trail."""

from dataclasses import dataclass, replace
from datetime import datetime

from fleet.core.authority import AuthorityEvent, AuthorityRecord, after
from fleet.errors import NotFoundError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.store import audit
from fleet.store.authorities import list_authorities, save_authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is done to one CA, by whom and when."""

    name: str
    """Its folder, or its issuer id."""
    actor: str
    at: datetime
    details: tuple[tuple[str, str], ...] = ()
    """Of the entry, beside what is on record."""


async def change(tx: Transaction, event: AuthorityEvent, what: Change) -> AuthorityRecord:
    """Record an event; what changes nothing leaves no entry. Runs inside a unit of work.

    Raises:
        NotFoundError: there is no such CA.
        RefusedError: that cannot happen to it now.
    """
    record = await find(tx, what.name)
    state = after(record, event)
    if state is record.state:
        return record
    changed = replace(record, state=state, changed_at=what.at)
    await save_authority(tx, changed)
    await audit.append(tx, entry(changed, f"authority.{event}", what))
    return changed


async def find(tx: Transaction, name: str) -> AuthorityRecord:
    """Return a CA by its folder or its issuer id. Raises `NotFoundError`."""
    for record in await list_authorities(tx):
        if name in {record.folder, record.issuer}:
            return record
    raise NotFoundError(f"there is no CA {name}", hint="fleet ca list")


def entry(record: AuthorityRecord, action: str, what: Change) -> AuditEntry:
    """Return the entry about a CA; it tells all that is on record, so that the trail can be followed."""
    told = (
        ("folder", record.folder),
        ("issuer", record.issuer),
        ("state", record.state.value),
        ("purpose", record.purpose.value),
        ("key", record.key.value),
        ("room", "" if record.room is None else str(record.room)),
    )
    return AuditEntry(
        at=what.at,
        action=action,
        actor=what.actor,
        domain=record.domain,
        details=(*((name, value) for name, value in told if value), *what.details),
    )
