"""Old entries of the audit trail go to files; their hashes stay, so that every proof goes on.

The file is whole on the disk before the trail tells of it, and the trail tells of it before an entry leaves.
Whatever of this a power cut stops is done by the next call.
"""

import asyncio
import gzip
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from fleet.core.audit import ARCHIVED, LAST
from fleet.core.merkle import Frontier
from fleet.errors import NeedsAttentionError, RefusedError
from fleet.files import make_folder, write_file
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.people.proofs import head
from fleet.ra.people.trail import trail_of
from fleet.ra.trail_lines import line
from fleet.store import audit, audit_archive
from fleet.store.audit_archive import ArchiveFile

YOUNGEST = timedelta(days=30)
"""What is younger stays: a restore, and whoever looks for yesterday's mistake, needs it at hand."""
PER_FILE = 20_000
"""Entries of one file at most: some 12 MB before they are packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """A file that was written, and who wanted it."""

    made: ArchiveFile
    actor: str


async def archive(context: Context, *, older: timedelta, actor: str) -> tuple[ArchiveFile, ...]:
    """Write entries that are older than `older` to files, and let their words go; return the files.

    Raises:
        RefusedError: `older` is less than 30 days.
        NeedsAttentionError: the trail is not what was signed; nothing leaves it.
    """
    if older < YOUNGEST:
        raise RefusedError(
            f"what is younger than {YOUNGEST.days} days stays", hint=f"--older {YOUNGEST.days}d, or more"
        )
    async with context.turns.of("audit archive"):  # an operator's and the server's own are one after another
        return await _archive(context, older, actor)


async def _archive(context: Context, older: timedelta, actor: str) -> tuple[ArchiveFile, ...]:
    await finish(context)
    first, end = await _due(context, context.clock() - older)
    if first < end:
        await _require_signed(context)
    made: list[ArchiveFile] = []
    while first < end:
        last = min(first + PER_FILE, end) - 1
        made.append(await _write(context, first, last))
        await context.store.write(_tell, _Told(made=made[-1], actor=actor))
        await finish(context)
        first = last + 1
    return tuple(made)


async def finish(context: Context) -> None:
    """Let go what stands in files that the trail tells of."""
    last, gone = await context.store.read(audit_archive.end, None) - 1, 1
    while last >= 0 and gone:
        gone = await context.store.write(audit_archive.let_go, last)


async def _due(context: Context, moment: datetime) -> tuple[int, int]:
    """Return the number of the first entry that may leave, and of the first one after it that may not."""
    first = await context.store.read(audit_archive.end, None)
    end = await context.store.read(audit_archive.first_since, moment)
    return first, min(end, (await head(context.store, context.fleet)).head.size)


async def _require_signed(context: Context) -> None:
    """Make sure that the trail is what its newest head says, before anything leaves it."""
    signed = (await head(context.store, context.fleet)).head
    tree = Frontier()
    while tree.size < signed.size and (leaves := await context.store.read(audit.leaf_hashes, tree.size)):
        for leaf in leaves[: signed.size - tree.size]:
            tree = tree.append(leaf)
    if (tree.size, tree.root()) != (signed.size, signed.root):
        raise NeedsAttentionError("the audit trail is not what was signed", hint="fleet audit verify")


async def _write(context: Context, first: int, last: int) -> ArchiveFile:
    lines: list[str] = []
    while first + len(lines) <= last:
        page = await context.store.read(audit.page, first + len(lines) - 1)
        lines += [line(stored) for stored in page if stored.number <= last]
    content = gzip.compress("".join(f"{text}\n" for text in lines).encode(), mtime=0)
    made = ArchiveFile(
        first=first,
        last=last,
        file=f"audit-{first:012}-{last:012}.jsonl.gz",
        digest=sha256(content).digest(),
        archived_at=context.clock(),
    )
    folder = trail_of(context).archive
    await asyncio.to_thread(make_folder, folder)
    await asyncio.to_thread(write_file, folder / made.file, content)
    return made


async def _tell(tx: Transaction, told: _Told) -> None:
    made = told.made
    await audit_archive.save_file(tx, made)
    details = (
        ("first", str(made.first)),
        (LAST, str(made.last)),
        ("file", made.file),
        ("sha256", made.digest.hex()),
    )
    entry = AuditEntry(at=made.archived_at, action=ARCHIVED, actor=told.actor, details=details)
    await audit.append(tx, entry)
