"""Revocation lists of CAs whose keys are not here: our roots', made where the key is, and other people's.

A root's list is asked for here, signed elsewhere, and taken when it is right. It never goes back in time, and
never forgets what was revoked.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleet.ca.crl import ReadCrl, read_crl, serials_missing
from fleet.ca.hierarchy import Above, Authority, Root
from fleet.core.authority import KeyKind
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.model import AuditEntry
from fleet.ports import Store, Transaction
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.context import Context
from fleet.ra.status.publishing import publish
from fleet.store import audit, times
from fleet.store.authorities import RevokedQuery, revoked_by
from fleet.store.crl_entries import Entries, ShardQuery, entries_in
from fleet.store.revocations import StoredCrl, next_crl_number, save_crl

LARGEST = 1024 * 1024
"""Bytes of such a list: it names CAs."""
_FAST_CLOCK = timedelta(minutes=5)
"""How far the clock of whoever signed may be ahead."""
_FIRST, _LAST = "0000", "ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOrder:
    """What the next list of a root is to be made of."""

    root: Root
    number: int
    entries: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenList:
    """A list that is in force now."""

    issuer: str
    crl: ReadCrl


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taking:
    taken: TakenList
    encoded: bytes
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbering:
    issuer: str
    floor: int
    now: datetime


async def order_list(context: Context, name: str) -> ListOrder:
    """Take the next number of a root's list, and return what it is to name.

    Raises:
        NotFoundError: there is no such root.
        RefusedError: it is somebody else's.
    """
    root = _root(context, name)
    if root.record.key is KeyKind.ELSEWHERE:
        raise RefusedError(
            f"the root {root.record.folder} is somebody else's",
            hint="hand in its list: fleet ca crl CA --take FILE",
        )
    floor = 0 if root.crl is None else read_crl(root.crl, root.certificate).number
    numbering = _Numbering(issuer=root.issuer_id, floor=floor, now=context.clock())
    number, entries = await context.store.write(_number, numbering)
    return ListOrder(root=root, number=number, entries=entries)


async def take_list(context: Context, name: str, encoded: bytes, *, actor: str) -> TakenList:
    """Put a list in force that was signed elsewhere; the same one again changes nothing.

    Raises:
        NotFoundError: no CA of that name has its key elsewhere.
        BadInputError: the list is not this CA's, not in its time, older than the one in force, or it does not
            name what is revoked here.
    """
    holder, path = _holder(context, name)
    if len(encoded) > LARGEST:
        raise BadInputError(
            f"the list has more than {LARGEST} bytes", hint="is it the list of a CA above ours"
        )
    crl = read_crl(encoded, holder.certificate)
    taken = TakenList(issuer=holder.issuer_id, crl=crl)
    if encoded == holder.crl:
        return taken
    _require_in_time(crl, context.clock())
    _require_newer(crl, holder)
    async with context.in_force.changing:
        await _require_whole(context, encoded, holder)
        await asyncio.to_thread(_write, path, encoded)
        taking = _Taking(taken=taken, encoded=encoded, actor=actor, at=context.clock())
        await context.store.write(_record, taking)
    await reload_authority(context)
    return taken


async def publish_list(context: Context, name: str) -> TakenList:
    """Make the list of an issuing CA anew; raises `NotFoundError` where there is none of that name."""
    for record in context.authority.records:
        if name in {record.folder, record.issuer} and not record.is_root:
            issuer = context.authority.issuer_by_id(record.issuer)
            context.crls.note_change()
            await publish(context)
            found = context.crls.find(issuer.issuer_id)
            if found is not None:
                return TakenList(issuer=issuer.issuer_id, crl=read_crl(found.der, issuer.certificate))
    raise NotFoundError(f"there is no issuing CA {name} that has a list", hint="fleet ca list")


def _root(context: Context, name: str) -> Root:
    for root in context.authority.roots:
        if name in {root.record.folder, root.issuer_id}:
            return root
    raise NotFoundError(f"there is no root {name}", hint="fleet ca list")


def _holder(context: Context, name: str) -> tuple[Root | Above, Path]:
    """Return the CA that a list is of, and the list's file."""
    for above in context.authority.above:
        if name == above.issuer_id:
            return above, context.home.foreign_list(above.issuer_id)
    root = _root(context, name)
    return root, context.home.authority_files(root.record.folder).crl


def _require_in_time(crl: ReadCrl, now: datetime) -> None:
    if crl.next_update <= now:
        raise BadInputError(f"the list ended on {crl.next_update:%Y-%m-%d}", hint="hand in a newer one")
    if crl.this_update > now + _FAST_CLOCK:
        raise BadInputError(
            f"the list begins {crl.this_update:%Y-%m-%d %H:%M} UTC, and that is to come",
            hint="check the clocks",
        )


def _require_newer(crl: ReadCrl, holder: Root | Above) -> None:
    """RFC 5280 5.2.3: numbers grow; whoever could put an old list back would take back revocations."""
    known = 0 if holder.crl is None else read_crl(holder.crl, holder.certificate).number
    if crl.number <= known:
        raise BadInputError(
            f"the list has the number {crl.number}, and number {known} is in force",
            hint="hand in a newer one",
        )


async def _require_whole(context: Context, encoded: bytes, holder: Root | Above) -> None:
    """Refuse a list of ours that leaves out what is revoked on record."""
    revoked = await context.store.read(revoked_by, RevokedQuery(issuer=holder.issuer_id, now=context.clock()))
    if missing := serials_missing(encoded, revoked, issuer=holder.certificate):
        raise BadInputError(
            f"the list does not name {len(missing)} certificates that are revoked, such as {missing[0]}",
            hint="fleet ca crl CA makes it of what is on record",
        )


def _write(path: Path, encoded: bytes) -> None:
    make_folder(path.parent)
    write_file(path, encoded, mode=PUBLIC_MODE)


async def _number(tx: Transaction, numbering: _Numbering) -> tuple[int, Entries]:
    query = ShardQuery(issuer=numbering.issuer, first=_FIRST, last=_LAST, ends_from=numbering.now)
    entries = await entries_in(tx, query)
    return await next_crl_number(tx, numbering.issuer, floor=numbering.floor), entries


async def _record(tx: Transaction, taking: _Taking) -> None:
    issuer, crl = taking.taken.issuer, taking.taken.crl
    stored = StoredCrl(
        issuer=issuer,
        number=crl.number,
        this_update=crl.this_update,
        next_update=crl.next_update,
        der=taking.encoded,
    )
    await save_crl(tx, stored)
    details = (
        ("issuer", issuer),
        ("number", str(crl.number)),
        ("entries", str(len(crl.serials))),
        ("next_update", times.text(crl.next_update)),
    )
    await audit.append(
        tx, AuditEntry(at=taking.at, action="authority.listed", actor=taking.actor, details=details)
    )


async def lists_behind(store: Store, authority: Authority, *, now: datetime) -> tuple[str, ...]:
    """Return the roots whose list in force does not name all that they have revoked, by folder."""
    found: list[str] = []
    for root in authority.roots:
        revoked = await store.read(revoked_by, RevokedQuery(issuer=root.issuer_id, now=now))
        if revoked and _lacks(root, revoked):
            found.append(root.record.folder)
    return tuple(found)


def _lacks(root: Root, serials: Sequence[str]) -> bool:
    return root.crl is None or bool(serials_missing(root.crl, serials, issuer=root.certificate))
