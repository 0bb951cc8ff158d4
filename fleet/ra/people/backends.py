"""Backends: programs of the fleet's owner that read what devices tell, and write to them where they may.

The key is made where the backend runs, and never comes here. Each has a certificate under the CA of services
and a scope of topics, and no more: none of a device's rights, nothing of the fleet's own topics.
"""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.core.csr import Csr, read_csr
from fleet.core.patterns import pattern_fault
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.issue_own import CertifiedOwn, OwnRequest, certify_own
from fleet.ra.people.batches import surroundings
from fleet.ra.people.stations import end_own
from fleet.store import access_classes, allowlist, audit, backends, certificates
from fleet.store.backends import BackendRecord
from fleet.store.certificates import CertificateQuery, CertificateRecord, with_key
from fleet.store.keys import blocked_because

NOTIFICATIONS = "fleet/v1/notifications/+"
"""Of the fleet's own topics, the one that a backend may hear."""
_TAKEN = frozenset({"fleet-server", "canary"})
_MOST = 32
_NONE_LEFT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOrder:
    """A backend that is to be added; `csr` is the PEM request of the key that it made."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    csr: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBackend:
    """A backend with its new certificate."""

    backend: BackendRecord
    own: CertifiedOwn


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInForce:
    """A backend, and the end of what it has in force."""

    backend: BackendRecord
    serial: str
    not_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    backend: BackendRecord
    csr: Csr
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closing:
    name: str
    actor: str
    reason: str
    at: datetime


async def add_backend(context: Context, order: BackendOrder) -> NewBackend:
    """Add a backend, and certify its key.

    Raises:
        BadInputError: the name is none, or a filter reaches what no backend may.
        RefusedError: there is, or was, one of that name, or the key is somebody's.
    """
    csr = read_csr(order.csr)
    record = BackendRecord(
        name=_name(order.name),
        reads=_scope(order.reads, "read", also=(NOTIFICATIONS,)),
        writes=_scope(order.writes, "write"),
        added_at=context.clock(),
    )
    if not record.reads and not record.writes:
        raise BadInputError("the service could do nothing", hint="such as --read 'devices/#'")
    await context.store.write(_add, _Opening(backend=record, csr=csr, actor=order.actor))
    await context.broker.govern()
    return NewBackend(backend=record, own=await _certify(context, record, csr, actor=order.actor))


async def renew_backend(context: Context, name: str, *, csr_pem: str, actor: str) -> NewBackend:
    """Certify the next key of a backend; the certificate before goes on until its end.

    Raises:
        NotFoundError: there is no such backend. RefusedError: it was revoked, or the key is somebody's.
    """
    csr = read_csr(csr_pem)
    record = await context.store.read(_require_open, name)
    await context.store.read(_require_fresh, csr)
    held = await context.store.read(_in_force, name)
    parent = held[-1].serial if held else None
    return NewBackend(backend=record, own=await _certify(context, record, csr, parent=parent, actor=actor))


async def list_backends(context: Context) -> tuple[BackendInForce, ...]:
    """Return all backends, revoked ones too, each with its newest certificate in force."""
    return await context.store.read(_list, None)


async def revoke_backend(context: Context, name: str, *, actor: str, reason: str) -> tuple[str, ...]:
    """Take a backend's access back for good, end its live sessions, and return its certificates' serials.

    Raises:
        NotFoundError: there is no such backend.
        UnreachableError: a broker does not answer; it gets the whole list when it is back.
    """
    closing = _Closing(name=name, actor=actor, reason=reason, at=context.clock())
    ended, sequence = await context.store.write(_revoke, closing)
    context.crls.note_change()
    await context.broker.reach(sequence)
    return ended


async def _certify(
    context: Context, record: BackendRecord, csr: Csr, *, actor: str, parent: str | None = None
) -> CertifiedOwn:
    request = OwnRequest(purpose=Purpose.SERVICE, name=record.name, actor=actor, parent=parent)
    own = await certify_own(surroundings(context), request, csr.public_key, now=context.clock())
    if own.sequence is not None:
        await context.broker.reach(own.sequence)
    return own


def _name(text: str) -> str:
    try:
        name = parse_domain(text)
    except MalformedMessageError as error:
        raise BadInputError(f"service {error}", hint="such as dashboard") from error
    if name in _TAKEN:
        raise RefusedError(f"{name} is a service of the fleet itself", hint="choose another name")
    return name


def _scope(filters: tuple[str, ...], what: str, *, also: tuple[str, ...] = ()) -> tuple[str, ...]:
    if len(filters) > _MOST:
        raise BadInputError(f"more than {_MOST} filters to {what}", hint="a # at the end covers many")
    for each in filters:
        fault = pattern_fault(each) if each not in also else None
        if fault is None and "{" in each:
            fault = "a service has a scope without variables"
        if fault is not None:
            raise BadInputError(f"{what} {each!r}: {fault}", hint="such as devices/prod/+/telemetry")
    return tuple(dict.fromkeys(filters))


async def _add(tx: Transaction, opening: _Opening) -> None:
    record = opening.backend
    if await backends.load_backend(tx, record.name) is not None:
        raise RefusedError(
            f"there is, or was, a service {record.name}", hint="choose another name: fleet service list"
        )
    await _require_fresh(tx, opening.csr)
    await backends.insert_backend(tx, record)
    await access_classes.class_of_backend(tx, record.name)
    details = (
        ("name", record.name),
        *(("reads", each) for each in ["\n".join(record.reads)] if each),
        *(("writes", each) for each in ["\n".join(record.writes)] if each),
    )
    entry = AuditEntry(at=record.added_at, action="service.added", actor=opening.actor, details=details)
    await audit.append(tx, entry)


async def _require_fresh(tx: Transaction, csr: Csr) -> None:
    if await blocked_because(tx, csr.key_hash) is not None or await with_key(tx, csr.key_hash):
        raise RefusedError(
            "the key of the request is somebody's, or blocked",
            hint="make a new key",
            code=ProblemCode.KEY_IN_USE,
        )


async def _require_open(tx: Transaction, name: str) -> BackendRecord:
    record = await backends.load_backend(tx, name)
    if record is None:
        raise NotFoundError(f"there is no service {name}", hint="fleet service list")
    if record.revoked_at is not None:
        raise RefusedError(f"service {name} was revoked", hint="fleet service add with another name")
    return record


async def _in_force(tx: Transaction, name: str) -> list[CertificateRecord]:
    query = CertificateQuery(
        purpose=Purpose.SERVICE, state=CertificateState.ACTIVE, name=name, limit=_NONE_LEFT
    )
    return list(await certificates.list_certificates(tx, query))


async def _list(tx: Transaction, _argument: None) -> tuple[BackendInForce, ...]:
    found = []
    for record in await backends.list_backends(tx, None):
        held = await _in_force(tx, record.name)
        newest = held[-1] if held else None
        signed = None if newest is None else newest.signed
        found.append(
            BackendInForce(
                backend=record,
                serial="" if newest is None else newest.serial,
                not_after=None if signed is None else signed.not_after,
            )
        )
    return tuple(found)


async def _revoke(tx: Transaction, closing: _Closing) -> tuple[tuple[str, ...], int]:
    record = await backends.load_backend(tx, closing.name)
    if record is None:
        raise NotFoundError(f"there is no service {closing.name}", hint="fleet service list")
    details = tuple(
        (name, value) for name, value in (("name", record.name), ("reason", closing.reason)) if value
    )
    entry = AuditEntry(at=closing.at, action="service.revoked", actor=closing.actor, details=details)
    await audit.append(tx, entry)
    ended = await end_own(tx, entry, purpose=Purpose.SERVICE, name=record.name)
    await backends.revoke_backend(tx, record.name, at=closing.at)
    return ended, await allowlist.sequence(tx, None)
