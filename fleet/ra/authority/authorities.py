"""Roots and issuing CAs at work: what is on record, and how a change of it takes effect at once.

Every part of the service reads `context.authority` anew for each request, so that one step replaces it.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from device_agent.wire.identity import serial_hex
from fleet.ca.hierarchy import OWN_REALMS, Authority
from fleet.ca.loading import load_authority
from fleet.core.authority import ISSUES, UNCERTIFIED, AuthorityEvent, AuthorityRecord, AuthorityState, after
from fleet.errors import FleetError, RefusedError
from fleet.model import CertificateState
from fleet.ports import Transaction
from fleet.ra.authority.trust_files import write_trust
from fleet.ra.authority_changes import Change, change, entry, find
from fleet.ra.context import Context
from fleet.ra.status.publishing import publish
from fleet.store import audit
from fleet.store.authorities import has_leaves, list_authorities, save_authority
from fleet.store.certificates import load_certificate

_IN_USE = frozenset({AuthorityState.RETIRING, AuthorityState.STANDBY})

_log = logging.getLogger(__name__)


async def reload_authority(context: Context) -> None:
    """Put in force what stands on record and in the files now; nobody is disconnected by it.

    A CA that has just become active is made known first, to brokers and listeners, and signs after that:
    no device gets a certificate that its broker does not take yet. One that stopped signs nothing from the
    commit on that recorded it.

    Raises:
        FleetError: a file or a key is not right; what was in force stays so.
    """
    async with context.in_force.changing:
        await _put_in_force(context, await context.store.read(list_authorities, None))


async def _put_in_force(context: Context, records: Sequence[AuthorityRecord]) -> None:
    authority = await _loaded(context, records)
    known = await _loaded(context, _held_back(records, context.authority))
    await asyncio.to_thread(write_trust, context.home, authority)
    context.in_force.replace(authority=known)
    try:
        await context.tls_users.reload()
        await publish(context)
    except FleetError as error:
        # The brokers get it when they are back, as every list; it is no reason not to sign.
        _log.warning("the authorities changed, and a broker does not know it yet: %s", error)
    context.in_force.replace(authority=authority)


async def _loaded(context: Context, records: Sequence[AuthorityRecord]) -> Authority:
    authority = load_authority(context.home, fleet=context.fleet, keys=context.in_force.keys, records=records)
    await asyncio.to_thread(authority.unlock)  # key derivation takes a while on purpose
    return authority


def _held_back(records: Sequence[AuthorityRecord], before: Authority) -> tuple[AuthorityRecord, ...]:
    """Return the records, in which a CA that did not sign before is known, and does not sign yet."""
    signing = {issuer.issuer_id for issuer in before.issuers if issuer.state in ISSUES}
    return tuple(
        replace(record, state=AuthorityState.RETIRING)
        if record.state in ISSUES and not record.is_root and record.issuer not in signing
        else record
        for record in records
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A CA that is to sign, or to stop signing, and the root that it hangs on."""

    record: AuthorityRecord
    serial: str
    """Of its certificate."""
    root: AuthorityRecord
    beside: tuple[str, ...]
    """The folders of the realm's other roots, and of what hangs on them."""
    what: Change


async def activate_authority(context: Context, name: str, *, actor: str) -> AuthorityRecord:
    """Let an issuing CA sign from now on, beside those that do.

    Where it hangs on another root than the domain had, and no device was there to trust that one, the new
    root takes its place: what hangs on the old one is retired.

    Raises:
        NotFoundError: there is no such CA.
        RefusedError: it cannot sign as it stands, or devices do not trust its root yet.
        FleetError: its key cannot be used.
    """
    async with context.in_force.changing:
        turn = await _turn(context, name, actor=actor)
        await unlock_authority(context, turn.record)
        _require_in_time(context, turn)
        record = await context.store.write(_activate, turn)
    await reload_authority(context)
    return record


async def judge_activation(context: Context, name: str) -> None:
    """Judge as `activate_authority` does, and change nothing; whether the key can be used is asked apart.

    Raises:
        NotFoundError, RefusedError: as there.
    """
    turn = await _turn(context, name, actor="")
    _require_in_time(context, turn)
    await context.store.read(_require_root, turn)


async def unlock_authority(context: Context, record: AuthorityRecord) -> None:
    """Try the key of an issuing CA. Raises `FleetError`."""
    await asyncio.to_thread(context.authority.issuer_by_id(record.issuer).signer.unlock)


def _require_in_time(context: Context, turn: _Turn) -> None:
    issuer = context.authority.issuer_by_id(turn.record.issuer)
    if issuer.not_after <= context.clock():
        raise RefusedError(f"the CA {turn.record.folder} has expired", hint="fleet ca add makes another")


async def stop_authority(context: Context, name: str, *, actor: str) -> AuthorityRecord:
    """Let an issuing CA sign nothing new; what it signed is good until its end.

    Raises:
        NotFoundError: there is no such CA.
        RefusedError: it does not sign, or nobody else would.
    """
    async with context.in_force.changing:
        record = await context.store.write(_stop, await _turn(context, name, actor=actor))
    await reload_authority(context)
    return record


async def limit_authority(context: Context, name: str, *, room: int | None, actor: str) -> AuthorityRecord:
    """Say how many leaves at most an issuing CA should have at a time; None: as many as there are.

    Raises:
        NotFoundError: there is no such CA.
        RefusedError: it is a root, which has no leaves.
    """
    what = Change(name=name, actor=actor, at=context.clock().replace(microsecond=0))
    async with context.in_force.changing:
        record = await context.store.write(_limit, (what, room))
    await reload_authority(context)
    return record


async def _limit(tx: Transaction, asked: tuple[Change, int | None]) -> AuthorityRecord:
    what, room = asked
    record = await find(tx, what.name)
    if record.is_root:
        raise RefusedError(f"the CA {record.folder} is a root, and has no leaves", hint="fleet ca list")
    if record.room == room:
        return record
    limited = replace(record, room=room)
    await save_authority(tx, limited)
    await audit.append(tx, entry(limited, "authority.limited", what))
    return limited


async def _turn(context: Context, name: str, *, actor: str) -> _Turn:
    record = await context.store.read(find, name)
    if record.is_root or record.state in UNCERTIFIED:
        why = "is a root" if record.is_root else "has no certificate"
        raise RefusedError(f"the CA {record.folder} {why}", hint="fleet ca list shows which can sign")
    issuer = context.authority.issuer_by_id(record.issuer)
    anchor = issuer.anchor
    (root,) = [root for root in context.authority.roots if root.anchor == anchor]
    beside = {one.issuer_id for one in context.authority.roots if one.anchor != anchor}
    beside |= {one.issuer_id for one in context.authority.issuers if one.anchor != anchor}
    return _Turn(
        record=record,
        serial=serial_hex(issuer.certificate.serial_number),
        root=root.record,
        beside=tuple(
            one.folder
            for one in context.authority.records
            if one.realm == record.realm and one.issuer in beside
        ),
        what=Change(name=record.folder, actor=actor, at=context.clock().replace(microsecond=0)),
    )


async def _require_root(tx: Transaction, turn: _Turn) -> AuthorityRecord:
    """Return the root of a CA that is to sign: one that is active, or the first of a domain without devices.

    Raises:
        RefusedError: it is neither, or the CA was given up.
    """
    after(turn.record, AuthorityEvent.ACTIVATED)
    own = await load_certificate(tx, turn.serial)
    if own is not None and own.state is CertificateState.REVOKED:
        # It may be retiring still, so that its devices stay connected while they move.
        raise RefusedError(
            f"the CA {turn.record.folder} was given up, and its certificate is revoked",
            hint="fleet ca add makes another",
        )
    root, realm = await find(tx, turn.root.folder), turn.record.realm
    if root.state in ISSUES or (root.state is AuthorityState.STANDBY and await _is_unused(tx, realm)):
        return root
    raise RefusedError(
        f"the root {root.folder} of this CA is {root.state}, and others trust {realm} by another one",
        hint="fleet ca rollover leads devices from one root to the next",
    )


async def _activate(tx: Transaction, turn: _Turn) -> AuthorityRecord:
    root = await _require_root(tx, turn)
    if root.state not in ISSUES:
        await change(tx, AuthorityEvent.ACTIVATED, replace(turn.what, name=root.folder))
        for folder in turn.beside:
            await _retire(tx, replace(turn.what, name=folder))
    return await change(tx, AuthorityEvent.ACTIVATED, turn.what)


async def _retire(tx: Transaction, what: Change) -> None:
    """Give up a root or a CA that no device has ever trusted."""
    if (await find(tx, what.name)).state is AuthorityState.ACTIVE:
        await change(tx, AuthorityEvent.STOPPED, what)
    if (await find(tx, what.name)).state in _IN_USE:
        await change(tx, AuthorityEvent.RETIRED, what)


async def _is_unused(tx: Transaction, realm: str) -> bool:
    """Tell whether a domain has no device yet that could trust a root of it."""
    return realm not in OWN_REALMS and not await has_leaves(tx, realm)


async def _stop(tx: Transaction, turn: _Turn) -> AuthorityRecord:
    record = turn.record
    others = [
        one
        for one in await list_authorities(tx)
        if (one.realm, one.purpose) == (record.realm, record.purpose) and one.folder != record.folder
    ]
    if record.state in ISSUES and not any(one.state in ISSUES for one in others):
        raise RefusedError(
            f"the CA {record.folder} is the last that signs for {record.domain or record.purpose}",
            hint="activate another one first: fleet ca activate CA",
        )
    return await change(tx, AuthorityEvent.STOPPED, turn.what)
