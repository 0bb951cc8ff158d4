"""What people do with the audit trail: read it, search it, take it along, and have it checked."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from fleet.core.audit import SignedHead
from fleet.errors import BadInputError
from fleet.ports import Store
from fleet.ra.people.syslog import entry_message, head_message
from fleet.ra.people.trail import Trail, entries
from fleet.ra.trail_lines import line
from fleet.store import audit, verification
from fleet.store.audit import AuditQuery, StoredEntry
from fleet.store.seal import head_line, read_head
from fleet.store.verification import Finding, Verdict, Verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Notary:
    """What an audit trail is checked against: name of the fleet, audit key, and the head kept outside."""

    fleet: str
    is_signed: Callable[[bytes, bytes], bool]
    head_file: Path


class ExportForm(StrEnum):
    """What an exported trail is written as."""

    JSON_LINES = "jsonl"
    SYSLOG = "syslog"


async def tail(store: Store, count: int) -> tuple[StoredEntry, ...]:
    """Return the newest entries, oldest of them first."""
    return await store.read(audit.search_newest, AuditQuery(limit=count))


async def search(store: Store, query: AuditQuery) -> tuple[StoredEntry, ...]:
    """Return a page of the entries that a query asks for, oldest first."""
    return await store.read(audit.search, query)


async def search_on(store: Store, query: AuditQuery) -> tuple[tuple[StoredEntry, ...], int]:
    """Return such a page, and the number of the entry after which the next one begins."""
    return await store.read(audit.search_on, query)


async def newest(store: Store) -> int:
    """Return the number of the newest entry; -1 where there is none."""
    return max((stored.number for stored in await tail(store, 1)), default=-1)


async def export(
    trail: Trail, *, after: int = -1, form: ExportForm = ExportForm.JSON_LINES
) -> AsyncIterator[str]:
    """Yield every entry above number `after` as one line, in order, then the signed head over all.

    It ends where the newest head did when it began, so that nothing in it is unsigned.

    Raises:
        NotFoundError, NeedsAttentionError: part of it is archived, and the file is missing, or damaged.
    """
    is_syslog = form is ExportForm.SYSLOG
    newest = await trail.store.read(audit.newest_head, trail.fleet)
    size = 0 if newest is None else newest.head.size
    async for page in entries(trail, after=after):
        for stored in page:
            if stored.number < size:
                yield entry_message(stored, fleet=trail.fleet) if is_syslog else line(stored)
    if newest is not None:
        yield head_message(newest) if is_syslog else head_line(newest)


async def verify(store: Store, notary: Notary) -> Verdict:
    """Check the whole trail: every entry, every signed head, and the head that was kept outside."""
    kept, problem = _kept(notary.head_file)
    against = Verification(log=notary.fleet, is_signed=notary.is_signed, kept=kept)
    verdict = await store.read(verification.verify, against)
    if problem and verdict.size:
        last = verdict.size - 1
        lost = Finding(first=last, last=last, text=f"perhaps not the last one: {problem}")
        return replace(verdict, findings=(*verdict.findings, lost))
    return verdict


def _kept(file: Path) -> tuple[SignedHead | None, str]:
    """Return the head that was kept outside, or why there is none: that is for the findings to tell."""
    try:
        kept = read_head(file)
    except BadInputError as error:
        return None, str(error)
    return kept, "" if kept is not None else f"{file} is missing"
