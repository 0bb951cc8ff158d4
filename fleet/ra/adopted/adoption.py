"""Adopts a fleet: devices with certificates of another CA come in by a list, and move to ours as they renew.

Everything that is not listed stays out, and so does whatever has a listed serial number and other bytes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity, parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.core import events
from fleet.core.serial import is_adopted
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, CutOff, RevocationReason
from fleet.ports import Transaction
from fleet.ra.adopted.adopted_files import write_adopted
from fleet.ra.adopted.adopting import Admitted, Case, admit, record_of
from fleet.ra.adopted.foreign import (
    ForeignAuthorities,
    is_listed_in,
    known_leaf,
    named_leaf,
    read_authorities,
    read_lists,
)
from fleet.ra.adopted.foreign_list import ListedLeaf
from fleet.ra.context import Context
from fleet.ra.devices import require_domain
from fleet.ra.issuing import follow
from fleet.ra.judging import Circumstances, Judged, settle
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.store import adopted, audit
from fleet.store.adopted import AdoptedLeaf, Adoption, LeafQuery, Standing
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_device

_PAGE = 1000
_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A fleet that is to be adopted, as an operator handed it in; PEM."""

    name: str
    domain: str
    authorities_pem: str
    crls_pem: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What became of a list."""

    admitted: int
    waiting: int
    """They have to show themselves over HTTPS before brokers let them in."""
    known: int
    """Listed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What became of the devices that had not moved."""

    ended: tuple[str, ...]
    """Broker names."""
    sessions: tuple[CutOff, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    adoption: Adoption
    actor: str
    action: str
    at: datetime


async def open_adoption(context: Context, opening: Opening) -> Adoption:
    """Trust the authorities of another fleet, for what is listed and nothing else.

    Raises:
        BadInputError: the name is none, a CA or a revocation list is not fit.
        RefusedError: there is, or was, an adoption of that name, or a CA is ours.
    """
    require_domain(context, opening.domain)
    try:
        name = parse_domain(opening.name)
    except MalformedMessageError as error:
        raise BadInputError(f"adoption {error}", hint="such as oldfleet") from error
    authorities = read_authorities(opening.authorities_pem)
    _require_foreign(context, authorities)
    lists = read_lists(opening.crls_pem, authorities, now=context.clock())
    adoption = Adoption(
        name=name,
        domain=opening.domain,
        authorities=authorities.pem,
        crls=_pem_of(lists),
        crls_until=min(end for one in lists if (end := one.next_update_utc) is not None),
        opened_at=context.clock(),
    )
    await context.store.write(
        _open,
        _Change(adoption=adoption, actor=opening.actor, action="adoption.opened", at=adoption.opened_at),
    )
    await _tell(context)
    return adoption


async def add_leaves(context: Context, name: str, rows: Sequence[ListedLeaf], *, actor: str) -> Listed:
    """List certificates of an adopted fleet; what is listed already stays as it is, so a list may come twice.

    Raises:
        NotFoundError: there is no such adoption.
        BadInputError: a certificate is none of that fleet's, or its own CA has revoked it.
        RefusedError: the adoption is closed, or a device has another certificate.
    """
    adoption = await _require_open(context, name)
    authorities = read_authorities(adoption.authorities)
    cases = [_case(context, adoption, authorities, row, actor) for row in rows]
    outcomes = await _admit_all(context, cases)
    if sequences := [one.sequence for one in outcomes if one.sequence is not None]:
        await context.broker.reach(max(sequences))
    new = [case for case, one in zip(cases, outcomes, strict=True) if not one.was_known]
    return Listed(
        admitted=sum(case.known is not None for case in new),
        waiting=sum(case.known is None for case in new),
        known=len(cases) - len(new),
    )


async def _admit_all(context: Context, cases: Sequence[Case]) -> list[Admitted]:
    """Admit each; raises what the first one that is refused raises, after the others of its part."""
    found: list[Admitted] = []
    for start in range(0, len(cases), _AT_ONCE):
        # Handed in together, they share a commit.
        writes = (context.store.write(admit, case) for case in cases[start : start + _AT_ONCE])
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            found.append(outcome)
    return found


async def take_lists(context: Context, name: str, crls_pem: str, *, actor: str) -> Closed:
    """Take newer revocation lists of an adopted fleet's CAs; who is on them is cut off.

    Raises:
        NotFoundError: there is no such adoption.
        BadInputError: a list is missing, forged or out of its time.
        RefusedError: the adoption is closed.
    """
    adoption = await _require_open(context, name)
    lists = read_lists(crls_pem, read_authorities(adoption.authorities), now=context.clock())
    newer = replace(
        adoption,
        crls=_pem_of(lists),
        crls_until=min(end for one in lists if (end := one.next_update_utc) is not None),
    )
    change = _Change(adoption=newer, actor=actor, action="adoption.lists-taken", at=context.clock())
    await context.store.write(_save, change)
    found: list[Identity] = []
    for leaf in await _all_not_moved(context, name):
        record = await context.store.read(load_certificate, leaf.record)
        if record is not None and record.signed is not None and record.signed.der:
            certificate = x509.load_der_x509_certificate(record.signed.der)
            found += [leaf.identity] if is_listed_in(newer.crls, certificate) else []
    closed = await _end(context, found, reason=RevocationReason.UNSPECIFIED, actor=actor)
    await _tell(context)
    return closed


async def close_adoption(context: Context, name: str, *, actor: str) -> Closed:
    """Let in nobody of that fleet any more; who has a certificate of ours by now stays.

    Raises:
        NotFoundError: there is no such adoption.
    """
    adoption = await require_known(context, name)
    change = _Change(adoption=adoption, actor=actor, action="adoption.closed", at=context.clock())
    await context.store.write(_close, change)
    here = [leaf.identity for leaf in await _all_not_moved(context, name) if leaf.admitted_at is not None]
    moving = await context.store.read(adopted.moving, name)
    here = [one for one in here if one not in moving or not await _moves_now(context, one, actor)]
    closed = await _end(context, here, reason=RevocationReason.CESSATION_OF_OPERATION, actor=actor)
    await _tell(context)
    return closed


async def standings(context: Context) -> tuple[Standing, ...]:
    """Return how far each adoption has come."""
    found = [
        await context.store.read(adopted.standing_of, one.name)
        for one in await context.store.read(adopted.list_adoptions, None)
    ]
    return tuple(one for one in found if one is not None)


async def _end(
    context: Context, devices: Sequence[Identity], *, reason: RevocationReason, actor: str
) -> Closed:
    if not devices:
        return Closed(ended=(), sessions=())
    receipt = await revoke(context, ByDevice(identities=tuple(devices)), reason=reason, actor=actor)
    return Closed(ended=receipt.names, sessions=receipt.sessions)


async def _moves_now(context: Context, identity: Identity, actor: str) -> bool:
    """Put a certificate of ours in use that a device has got and not used yet; tell whether it has one."""
    circumstances = Circumstances(at=context.clock(), actor=actor)
    judged = await context.store.write(_use_newest, (identity, circumstances))
    if judged is None:
        return False
    await follow(context, judged)
    return True


async def _use_newest(tx: Transaction, asked: tuple[Identity, Circumstances]) -> Judged | None:
    identity, circumstances = asked
    device = await load_device(tx, identity)
    unused = [
        one
        for one in (() if device is None else device.certificates)
        if one.state is CertificateState.ISSUED and not is_adopted(one.serial)
    ]
    if device is None or not unused:
        return None
    return await settle(tx, device, (events.Confirm(serial=unused[-1].serial),), circumstances)


def _case(
    context: Context, adoption: Adoption, authorities: ForeignAuthorities, row: ListedLeaf, actor: str
) -> Case:
    identity = Identity(domain=adoption.domain, device_id=row.device_id)
    now = context.clock()
    if row.certificate is None:
        known = named_leaf(row, authorities, now=now)
    else:
        known = known_leaf(row.certificate, authorities)
        if row.serial not in {"", known.serial} or row.fingerprint not in {"", known.fingerprint}:
            raise BadInputError(f"{row.place}: the certificate is not the one that is named")
        if is_listed_in(adoption.crls, row.certificate):
            raise BadInputError(f"{row.place}: its own CA has revoked the certificate of {row.device_id}")
    leaf = AdoptedLeaf(
        record=record_of(adoption.name, identity),
        adoption=adoption.name,
        identity=identity,
        serial=row.serial,
        fingerprint=row.fingerprint,
    )
    return Case(leaf=leaf, known=known, actor=actor, at=now.replace(microsecond=0))


def _require_foreign(context: Context, authorities: ForeignAuthorities) -> None:
    """Refuse a CA of ours: what it signs is let in by its own record, never by a list."""
    ours = [one.certificate.public_key() for one in context.authority.roots]
    ours += [one.certificate.public_key() for one in context.authority.issuers]
    if any(one.public_key() in ours for one in authorities.certificates):
        raise RefusedError("one of these CAs is this fleet's own", hint="fleet ca list")


async def require_known(context: Context, name: str) -> Adoption:
    """Return an adoption; raises `NotFoundError` where there is none of that name."""
    adoption = await context.store.read(adopted.load_adoption, name)
    if adoption is None:
        raise NotFoundError(f"there is no adoption {name}", hint="fleet adoption list")
    return adoption


async def _require_open(context: Context, name: str) -> Adoption:
    adoption = await require_known(context, name)
    if adoption.closed_at is not None:
        raise RefusedError(f"the adoption {name} is closed", hint="open another: fleet adoption open")
    return adoption


async def _all_not_moved(context: Context, name: str) -> tuple[AdoptedLeaf, ...]:
    found: list[AdoptedLeaf] = []
    query = LeafQuery(adoption=name, limit=_PAGE)
    while page := await context.store.read(adopted.not_moved, query):
        found += page
        query = replace(query, after=page[-1].identity.device_id)
    return tuple(found)


async def _tell(context: Context) -> None:
    """Make listeners and brokers trust what is adopted now, and nothing that is not any more."""
    await write_adopted(context.store, context.home)
    await context.tls_users.reload()


async def _open(tx: Transaction, change: _Change) -> None:
    if await adopted.load_adoption(tx, change.adoption.name) is not None:
        raise RefusedError(
            f"there is, or was, an adoption {change.adoption.name}", hint="choose another name"
        )
    await adopted.insert_adoption(tx, change.adoption)
    await audit.append(tx, _entry(change))


async def _save(tx: Transaction, change: _Change) -> None:
    await adopted.save_lists(tx, change.adoption)
    await audit.append(tx, _entry(change))


async def _close(tx: Transaction, change: _Change) -> None:
    await adopted.close_adoption(tx, change.adoption.name, at=change.at)
    await audit.append(tx, _entry(change))


def _entry(change: _Change) -> AuditEntry:
    adoption = change.adoption
    return AuditEntry(
        at=change.at,
        action=change.action,
        actor=change.actor,
        domain=adoption.domain,
        details=(("adoption", adoption.name),),
    )


def _pem_of(lists: Sequence[x509.CertificateRevocationList]) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in lists)
