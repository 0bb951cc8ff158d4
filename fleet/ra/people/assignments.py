"""Chooses the profile of a device or of a batch: what the certificates hold that it gets from now on."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.errors import NotFoundError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.devices import require_domain, require_in_service
from fleet.store import audit, claims
from fleet.store.devices import set_profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Which profile is for whom: a device, or else a batch. An empty profile takes the choice back."""

    domain: str
    profile: str
    actor: str
    device_id: str = ""
    batch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    assignment: Assignment
    at: datetime


async def assign(desk: Desk, assignment: Assignment) -> None:
    """Choose a profile; certificates that are in force stay as they are until they are renewed.

    Raises:
        NotFoundError: there is no such domain, profile, device or batch.
        RefusedError: the device was retired.
    """
    require_domain(desk, assignment.domain)
    found = desk.config.domain(assignment.domain)
    names = [] if found is None else [profile.name for profile in found.profiles]
    if assignment.profile and assignment.profile not in names:
        raise NotFoundError(
            f"{assignment.domain} has no profile {assignment.profile}", hint=f"it has: {', '.join(names)}"
        )
    await desk.store.write(_assign, _Act(assignment=assignment, at=desk.clock()))


async def _assign(tx: Transaction, act: _Act) -> None:
    wanted = act.assignment
    if wanted.device_id:
        identity = Identity(domain=wanted.domain, device_id=wanted.device_id)
        await require_in_service(tx, identity)
        await set_profile(tx, identity, wanted.profile)
    elif await claims.load_batch(tx, wanted.domain, wanted.batch) is None:
        raise NotFoundError(f"{wanted.domain} has no batch {wanted.batch}", hint="fleet claim list")
    else:
        await claims.set_batch_profile(tx, wanted.domain, wanted.batch, profile=wanted.profile)
    details = (("profile", wanted.profile), ("batch", wanted.batch))
    entry = AuditEntry(
        at=act.at,
        action="profile.assigned",
        actor=wanted.actor,
        domain=wanted.domain,
        device_id=wanted.device_id,
        details=tuple((name, value) for name, value in details if value),
    )
    await audit.append(tx, entry)
