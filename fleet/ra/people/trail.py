"""The whole audit trail: what stands in the store, and before it what was archived in files."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Protocol

from fleet.errors import NeedsAttentionError, NotFoundError
from fleet.files import telling
from fleet.home import Home
from fleet.ports import Store
from fleet.ra.trail_lines import KeptEntry, parse_line
from fleet.store import audit, audit_archive
from fleet.store.audit import AuditQuery, StoredEntry
from fleet.store.audit_archive import ArchiveFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Where the trail of a fleet is: its store, and the folder of its archives."""

    store: Store
    fleet: str
    archive: Path


class _Place(Protocol):
    @property
    def store(self) -> Store: ...

    @property
    def fleet(self) -> str: ...

    @property
    def home(self) -> Home: ...


def trail_of(context: _Place) -> Trail:
    """Return the trail of the home that this process serves."""
    return Trail(store=context.store, fleet=context.fleet, archive=context.home.archive)


async def entries(trail: Trail, *, after: int) -> AsyncIterator[tuple[StoredEntry, ...]]:
    """Yield every entry above number `after` in order, page by page.

    Raises:
        NotFoundError: they are archived, and the file is not in its folder.
        NeedsAttentionError: an archive is not what was written.
    """
    for made in await trail.store.read(audit_archive.files, None):
        if made.last > after:
            found = await asyncio.to_thread(_read, trail.archive, made)
            yield tuple(stored for stored in found if stored.number > after)
            after = made.last
    while page := await trail.store.read(audit.page, after):
        yield page
        after = page[-1].number


async def entry_at(trail: Trail, number: int) -> StoredEntry | None:
    """Return the entry of a number, or None where the trail has none. Raises as `entries`."""
    found = await trail.store.read(audit.search, AuditQuery(after=number - 1, limit=1))
    if found and found[0].number == number:
        return found[0]
    made = await trail.store.read(audit_archive.file_of, number)
    if made is None:
        return None
    return (await asyncio.to_thread(_read, trail.archive, made))[number - made.first]


def _read(folder: Path, made: ArchiveFile) -> tuple[StoredEntry, ...]:
    """Return what an archive holds; its digest is on record, so that nothing else is even unpacked."""
    path = folder / made.file
    with telling(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            text = f"entries {made.first} to {made.last} are archived in {made.file}, which is not there"
            raise NotFoundError(text, hint=f"bring it back to {folder}") from error
    if not compare_digest(sha256(content).digest(), made.digest):
        raise NeedsAttentionError(
            f"{path} is not the archive that was written", hint="take another copy of it; keep this one"
        )
    lines = [parse_line(line, place) for place, line in enumerate(gzip.decompress(content).splitlines(), 1)]
    return tuple(
        StoredEntry(number=one.number, entry=one.entry, leaf_hash=one.leaf_hash)
        for one in lines
        if isinstance(one, KeptEntry)
    )
