"""Notes on the audit trail that a home was backed up, and that a backup was tried.

A backup is noted before it is made: whoever takes one leaves a trace in it.
"""

from dataclasses import dataclass

from fleet.model import AuditEntry
from fleet.ra.desk import Desk
from fleet.store import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupNote:
    """A backup that is about to be made, by whom, and by how many it can be opened."""

    backup_id: str
    shares: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillNote:
    """A drill that was done, and the step at which it failed, if it did."""

    backup_id: str
    failed: str
    actor: str


async def note_backup(desk: Desk, note: BackupNote) -> int:
    """Put a backup on the trail; return the number of the entry."""
    details = (("backup", note.backup_id), ("shares", note.shares))
    entry = AuditEntry(at=desk.clock(), action="backup.made", actor=note.actor, details=details)
    return await desk.store.write(audit.append, entry)


async def note_drill(desk: Desk, note: DrillNote) -> int:
    """Put a drill on the trail; return the number of the entry."""
    outcome = f"failed: {note.failed}" if note.failed else "passed"
    details = (("backup", note.backup_id), ("outcome", outcome))
    entry = AuditEntry(at=desk.clock(), action="backup.drilled", actor=note.actor, details=details)
    return await desk.store.write(audit.append, entry)
