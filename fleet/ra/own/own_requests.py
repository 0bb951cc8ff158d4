"""Renewals that the bearer asks for: operators and stations make their keys themselves, and send a request.

Two steps, as for a device: the next certificate is issued beside the one in use, and that one ends when the
bearer says, with the next one, that it works. Who may ask, the caller has proved.
"""

from dataclasses import dataclass

from device_agent.wire.problems import ProblemCode
from fleet.ca.issuer import pem_of
from fleet.core.csr import read_csr
from fleet.errors import NotFoundError, RefusedError
from fleet.model import CertificateState, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.issue_own import OwnRequest, certify_own
from fleet.ra.own.superseding import Superseding, supersede
from fleet.ra.people.batches import surroundings
from fleet.store.certificates import (
    CertificateQuery,
    CertificateRecord,
    list_certificates,
    load_certificate,
    with_key,
)
from fleet.store.keys import blocked_because
from fleet.store.operators import load_operator
from fleet.store.stations import load_station

_SEVERAL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Whose certificate it is, and who asks, as the audit trail names him."""

    purpose: Purpose
    name: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    bearer: Bearer
    key_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """What the bearer has in force, oldest first, and what this very key has got."""

    in_force: tuple[CertificateRecord, ...]
    before: CertificateRecord | None


async def renew_for(context: Context, bearer: Bearer, csr_pem: str) -> CertificateRecord:
    """Issue the bearer's next certificate for the key of a request; the same key gets the same one again.

    Raises:
        NotFoundError: there is no such bearer.
        RefusedError: the key is not fit, in use or somebody's, or he asks too often.
    """
    if not context.by_device.allow(f"renew {bearer.purpose} {bearer.name}", now=context.clock()):
        raise RefusedError("too many renewals in a minute", code=ProblemCode.RATE_LIMITED)
    csr = read_csr(csr_pem)
    standing = await context.store.read(_stand, _Question(bearer=bearer, key_hash=csr.key_hash))
    if standing.before is not None:
        return standing.before
    newest = standing.in_force[-1]
    request = OwnRequest(
        purpose=bearer.purpose,
        name=bearer.name,
        actor=bearer.actor,
        domain=newest.domain,
        parent=newest.serial,
    )
    now = context.clock().replace(microsecond=0)
    issued = await certify_own(surroundings(context), request, csr.public_key, now=now)
    record = await context.store.read(load_certificate, issued.issued.serial)
    assert record is not None  # noqa: S101 - it was recorded one line above
    return record


async def end_earlier(context: Context, bearer: Bearer, serial: str) -> tuple[str, ...]:
    """Supersede what the bearer had before a certificate that works; return the serials.

    Raises:
        NotFoundError: he has no such certificate in force.
    """
    found = await context.store.read(_in_force, bearer)
    if serial not in {one.serial for one in found}:
        raise NotFoundError(f"{bearer.name} has no certificate {serial} in force", hint="fleet cert list")
    earlier = tuple(one.serial for one in found if one.serial < serial)
    if earlier:
        ending = Superseding(serials=earlier, actor=bearer.actor, at=context.clock())
        await supersede(context, ending)
    return earlier


def certificate_pem(context: Context, record: CertificateRecord) -> str:
    """Return a certificate with its chain, as TLS sends them. Raises `NotFoundError`."""
    if record.signed is None:
        raise NotFoundError(f"certificate {record.serial} was never signed", hint="fleet cert list")
    return pem_of(record.signed.der) + context.authority.issuer_by_id(record.issuer).chain_pem


async def _stand(tx: Transaction, question: _Question) -> _Standing:
    bearer = question.bearer
    if not await _is_known(tx, bearer):
        hint = f"fleet {bearer.purpose} list"
        raise NotFoundError(f"there is no {bearer.purpose} {bearer.name}", hint=hint)
    found = await _in_force(tx, bearer)
    if not found:
        raise RefusedError(
            f"no certificate of {bearer.name} is in force", hint=f"fleet {bearer.purpose} add another"
        )
    if (why := await blocked_because(tx, question.key_hash)) is not None:
        raise RefusedError(f"the key is blocked: {why}", hint="make a new key", code=ProblemCode.BAD_KEY)
    before = await with_key(tx, question.key_hash)
    answered = next((one for one in found if one in before and one.life.parent is not None), None)
    if before and answered is None:
        raise RefusedError("renewal takes a new key", hint="make a new key", code=ProblemCode.KEY_IN_USE)
    return _Standing(in_force=found, before=answered)


async def _is_known(tx: Transaction, bearer: Bearer) -> bool:
    if bearer.purpose is Purpose.OPERATOR:
        operator = await load_operator(tx, bearer.name)
        return operator is not None and operator.removed_at is None
    station = await load_station(tx, bearer.name)
    return station is not None and station.closed_at is None


async def _in_force(tx: Transaction, bearer: Bearer) -> tuple[CertificateRecord, ...]:
    query = CertificateQuery(
        purpose=bearer.purpose,
        state=CertificateState.ACTIVE,
        name=bearer.name,
        limit=_SEVERAL,
    )
    return await list_certificates(tx, query)
