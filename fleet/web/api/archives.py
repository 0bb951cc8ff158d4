"""Operators' routes of what stands beside the audit trail: archives of old entries, and who witnesses it."""

from datetime import timedelta

from device_agent.wire.fields import time_text
from fleet.model import Role
from fleet.ra.keeping.archiving import archive
from fleet.ra.keeping.witnessing import checkpoint_note, signer_of
from fleet.store import audit_archive, witnesses
from fleet.store.audit_archive import ArchiveFile
from fleet.store.witnesses import WitnessRecord
from fleet.web.api.asked import Asked
from fleet.web.api.routes import Members, One, Route, listed, time_or_none

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
            about="Write entries older than so many days to files; their hashes stay, every proof goes on.",
            body=("days",),
            needs=frozenset({"days"}),
            answer=One("AuditArchives"),
        ),
        Route(
            method="GET",
            path="audit/witnesses",
            role=Role.VIEWER,
            handler=_witnesses,
            about="Who witnesses that the trail only grows, and what each has cosigned last.",
            answer=One("AuditWitnesses"),
        ),
        Route(
            method="GET",
            path="audit/checkpoint",
            role=Role.VIEWER,
            handler=_checkpoint,
            about="A checkpoint as a signed note (C2SP), and the key that it is signed with.",
            query=("witness",),
            answer=One("AuditCheckpoint"),
        ),
    )


async def _list(asked: Asked) -> Members:
    return _members(await asked.context.store.read(audit_archive.files, None))


async def _archive(asked: Asked) -> Members:
    days = asked.body().integer("days", lowest=1, highest=_MOST_DAYS)
    return _members(await archive(asked.context, older=timedelta(days=days), actor=asked.actor))


async def _witnesses(asked: Asked) -> Members:
    configured = {one.name: one.url for one in asked.context.config.witnesses}
    known = {one.name: one for one in await asked.context.store.read(witnesses.witnesses, None)}
    return listed(
        [_witness_members(name, configured.get(name), known.get(name)) for name in sorted(configured | known)]
    )


def _witness_members(name: str, url: str | None, record: WitnessRecord | None) -> Members:
    return {
        "name": name,
        "url": url,
        "size": 0 if record is None else record.size,
        "cosigned_at": None if record is None else time_or_none(record.cosigned_at),
        "tried_at": None if record is None else time_text(record.tried_at),
        "problem": "" if record is None else record.problem,
    }


async def _checkpoint(asked: Asked) -> Members:
    witness = asked.query().text("witness") or None
    note = await checkpoint_note(asked.context, witness=witness)
    return {"key": signer_of(asked.context).key.text(), "note": note}


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
