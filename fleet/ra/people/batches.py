"""Makes a batch and its claim certificate, which lets ids that are registered for it enroll, a few times."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from device_agent.wire.fields import time_text
from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError, RefusedError
from fleet.model import AuditEntry, Purpose
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.devices import require_domain
from fleet.ra.issue_own import OwnCertificate, OwnRequest, Surroundings, issue_own
from fleet.store import audit, claims
from fleet.store.claims import PUBLIC_BATCH, Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOrder:
    """A batch that is to have a claim certificate; `uses` is how many devices it may let in."""

    domain: str
    name: str
    uses: int
    lifetime: timedelta
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClaim:
    """A batch with a new claim certificate; its key is in here, and nowhere else."""

    batch: Batch
    own: OwnCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    batch: Batch
    actor: str


async def create_batch(context: Context, order: BatchOrder) -> NewClaim:
    """Make a batch, or take one that came with registrations, and issue a claim certificate for it.

    Raises:
        BadInputError: the name or the count is none.
        NotFoundError: the configuration has no such domain.
        RefusedError: it has had a claim certificate already, or was closed.
    """
    require_domain(context, order.domain)
    if order.name == PUBLIC_BATCH or order.uses < 1:
        raise BadInputError(
            f"a batch needs a name other than {PUBLIC_BATCH} and a count of 1 or more",
            hint="fleet claim create --batch NAME --count N --certificate",
        )
    now = context.clock()
    batch = Batch(
        domain=order.domain,
        name=batch_name(order.name),
        created_at=now,
        uses_allowed=order.uses,
        expires_at=now + order.lifetime,
    )
    opened = await context.store.write(_open, _Opening(batch=batch, actor=order.actor))
    request = OwnRequest(
        purpose=Purpose.CLAIM,
        name=f"{order.domain}.{order.name}",  # `.` is in no device name
        domain=order.domain,
        batch=order.name,
        actor=order.actor,
        lifetime=order.lifetime,
    )
    own = await issue_own(surroundings(context), request, now=now)
    if own.sequence is not None:
        await context.broker.reach(own.sequence)
    return NewClaim(batch=opened, own=own)


def batch_name(text: str) -> str:
    """Return the name of a batch, a DNS label; raises `BadInputError`."""
    try:
        return parse_domain(text)
    except MalformedMessageError as error:
        raise BadInputError(f"batch {error}", hint="such as line3-2026-05") from error


def surroundings(context: Context) -> Surroundings:
    """Return what issuing our own certificates needs of a context."""
    return Surroundings(
        store=context.store,
        authority=context.authority,
        randomness=context.randomness,
        status_url=context.endpoints.status_url,
    )


async def _open(tx: Transaction, opening: _Opening) -> Batch:
    batch = opening.batch
    known = await claims.load_batch(tx, batch.domain, batch.name)
    if known is None:
        await claims.insert_batch(tx, batch)
    elif known.closed_at is not None or await claims.claim_serials(tx, known):
        raise RefusedError(
            f"batch {batch.name} of {batch.domain} has a claim certificate already, or was closed",
            hint="choose another batch name, or revoke that one: fleet claim list",
        )
    else:
        await claims.limit_batch(tx, batch)
    await audit.append(tx, _entry(batch, actor=opening.actor, at=batch.created_at))
    opened = await claims.load_batch(tx, batch.domain, batch.name)
    return batch if opened is None else opened


def _entry(batch: Batch, *, actor: str, at: datetime) -> AuditEntry:
    return AuditEntry(
        at=at,
        action="batch.opened",
        actor=actor,
        domain=batch.domain,
        details=(("batch", batch.name), ("uses", str(batch.uses_allowed)), *_expiry(batch)),
    )


def _expiry(batch: Batch) -> tuple[tuple[str, str], ...]:
    return () if batch.expires_at is None else (("expires", time_text(batch.expires_at)),)
