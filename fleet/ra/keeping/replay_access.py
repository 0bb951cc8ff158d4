"""What acts on the access policy and on backends did, to be done again from their audit entries."""

from collections.abc import Mapping

from fleet.access_file import parse
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.store import access_policies, backends
from fleet.store.access_policies import PolicyRecord
from fleet.store.backends import BackendRecord


async def apply_policy(tx: Transaction, entry: AuditEntry) -> None:
    """Put a policy in force."""
    details = _details(entry)
    text = details["text"]
    record = PolicyRecord(
        number=int(details["number"]),
        text=text,
        digest=details["digest"],
        asks=parse(text).asks,
        applied_at=entry.at,
        actor=entry.actor,
    )
    if await access_policies.load_policy(tx, record.number) is None:
        await access_policies.insert_policy(tx, record)


async def add_backend(tx: Transaction, entry: AuditEntry) -> None:
    """Add a backend with its scope; its certificates have entries of their own."""
    details = _details(entry)
    if await backends.load_backend(tx, details["name"]) is not None:
        return
    record = BackendRecord(
        name=details["name"],
        reads=tuple(details.get("reads", "").splitlines()),
        writes=tuple(details.get("writes", "").splitlines()),
        added_at=entry.at,
    )
    await backends.insert_backend(tx, record)


async def revoke_backend(tx: Transaction, entry: AuditEntry) -> None:
    """Take a backend's access back."""
    await backends.revoke_backend(tx, _details(entry)["name"], at=entry.at)


def _details(entry: AuditEntry) -> Mapping[str, str]:
    return dict(entry.details)
