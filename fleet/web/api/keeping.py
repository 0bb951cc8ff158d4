"""Operators' routes around backups: notes of them on the trail, and the end of a freeze after a restore.

No key and no database leaves the server here: a backup is made on its machine, by whoever owns the home.
"""

from fleet.model import Role
from fleet.ra.gap import close_gap
from fleet.ra.keeping.backup_notes import BackupNote, DrillNote, note_backup, note_drill
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route

_ID_BYTES = 8
_LONGEST_WORD = 64
_LONGEST_REASON = 200


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="POST",
            path="backups",
            role=Role.SECURITY,
            handler=_note_backup,
            about="Put on the audit trail that a backup is made.",
            body=("backup", "shares"),
            needs=frozenset({"backup", "shares"}),
            answer=One("Note"),
        ),
        Route(
            method="POST",
            path="drills",
            role=Role.SECURITY,
            handler=_note_drill,
            about="Put on the audit trail that a backup was tried, and where it failed.",
            body=("backup", "failed"),
            needs=frozenset({"backup"}),
            answer=One("Note"),
        ),
        Route(
            method="POST",
            path="unfreeze",
            role=Role.SECURITY,
            handler=_unfreeze,
            about="Let devices enroll and renew again after a restore without its latest audit trail.",
            body=("reason",),
            answer=One("Unfrozen"),
        ),
    )


async def _note_backup(asked: Asked) -> Members:
    body = asked.body()
    backup_id = body.hex("backup", lowest=_ID_BYTES, highest=_ID_BYTES).hex()
    shares = body.text("shares", longest=_LONGEST_WORD)
    number = await note_backup(
        asked.context, BackupNote(backup_id=backup_id, shares=shares, actor=asked.actor)
    )
    return {"backup": backup_id, "number": number}


async def _note_drill(asked: Asked) -> Members:
    body = asked.body()
    backup_id = body.hex("backup", lowest=_ID_BYTES, highest=_ID_BYTES).hex()
    failed = body.text("failed", longest=_LONGEST_WORD) if "failed" in body else ""
    note = DrillNote(backup_id=backup_id, failed=failed, actor=asked.actor)
    return {"backup": backup_id, "number": await note_drill(asked.context, note)}


async def _unfreeze(asked: Asked) -> Members:
    body = asked.body()
    reason = body.text("reason", longest=_LONGEST_REASON) if "reason" in body else ""
    return {"since": await close_gap(asked.context, actor=asked.actor, reason=reason)}
