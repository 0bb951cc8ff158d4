"""Operators' routes of the parts of the audit trail that were written to files."""

from datetime import timedelta

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra.keeping.archiving import archive
from fleet.store import audit_archive
from fleet.store.audit_archive import ArchiveFile
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route, listed

_MOST_DAYS = 3650


def routes() -> tuple[Route, ...]:
    """Return the rows of the table."""
    return (
        Route(
            method="GET",
            path="audit/archives",
            role=Role.VIEWER,
            handler=_list,
            about="The files that old entries of the trail were written to, in the home's folder archive.",
            answer=One("AuditArchives"),
        ),
        Route(
            method="POST",
            path="audit/archives",
            role=Role.SECURITY,
            handler=_archive,
            about="Write entries older than so many days to files; their hashes stay, and every proof goes on.",
            body=("days",),
            needs=frozenset({"days"}),
            answer=One("AuditArchives"),
        ),
    )


async def _list(asked: Asked) -> Members:
    return _members(await asked.context.store.read(audit_archive.files, None))


async def _archive(asked: Asked) -> Members:
    days = asked.body().integer("days", lowest=1, highest=_MOST_DAYS)
    return _members(await archive(asked.context, older=timedelta(days=days), actor=asked.actor))


def _members(files: tuple[ArchiveFile, ...]) -> Members:
    return listed(
        [
            {
                "first": made.first,
                "last": made.last,
                "file": made.file,
                "sha256": made.digest.hex(),
                "archived_at": time_text(made.archived_at),
            }
            for made in files
        ]
    )
