"""What the steps of a rollout have in common: it is loaded for one, saved after it, told of on the trail."""

from dataclasses import dataclass, replace
from datetime import datetime

from fleet.core.rollout import RolloutEvent, after
from fleet.core.rollout_plan import Rollout
from fleet.errors import NotFoundError, RefusedError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.campaigns.plan_file import stored_plan
from fleet.ra.desk import Desk
from fleet.store import audit, rollouts
from fleet.store.rollouts import ByName

SERVER = "server"

Details = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An event of a rollout: who caused it, when, and why."""

    name: str
    event: RolloutEvent
    actor: str
    at: datetime
    reason: str = ""
    seen: int | None = None
    """The version that it was decided on; None: whatever it is now."""


async def find(tx: Transaction, name: str) -> Rollout:
    """Return a rollout by its name; raises `NotFoundError`."""
    found = await rollouts.load_rollout(tx, ByName(name=name, read=stored_plan))
    if found is None:
        raise NotFoundError(f"there is no rollout {name}", hint="fleet rollout list")
    return found


async def take(tx: Transaction, rollout: Rollout, step: Step, *, details: Details = ()) -> Rollout:
    """Take a step, and put it on the trail; one that is taken already changes nothing.

    Raises:
        RefusedError: it cannot be taken now, or somebody else was faster.
    """
    state = after(rollout.state, step.event, name=rollout.plan.name)
    if state is rollout.state:
        return rollout
    if step.seen is not None and step.seen != rollout.version:
        raise conflict(rollout, step.seen)
    changed = replace(
        rollout,
        state=state,
        version=rollout.version + 1,
        changed_by=step.actor,
        changed_at=step.at,
        reason=_why(rollout, step),
    )
    await save(tx, changed, seen=rollout.version)
    await tell(tx, changed, step, action=f"rollout.{_PAST[step.event]}", details=details)
    return changed


async def save(tx: Transaction, rollout: Rollout, *, seen: int) -> None:
    """Write where a rollout stands; raises `RefusedError` where it was changed since."""
    if not await rollouts.save_standing(tx, rollout, seen=seen):
        raise conflict(await find(tx, rollout.plan.name), seen)


async def tell(tx: Transaction, rollout: Rollout, step: Step, *, action: str, details: Details = ()) -> None:
    """Put what happened to a rollout on the trail, with what it was decided by."""
    told = (
        ("rollout", rollout.plan.name),
        ("state", rollout.state.value),
        ("version", str(rollout.version)),
        *details,
        ("reason", step.reason),
    )
    entry = AuditEntry(
        at=step.at,
        action=action,
        actor=step.actor,
        details=tuple((name, value) for name, value in told if value),
    )
    await audit.append(tx, entry)


async def note_refused(desk: Desk, name: str, error: RefusedError, *, act: str, actor: str) -> None:
    """Put on the trail that an operator was refused, and why."""
    details = (("rollout", name), ("act", act), ("reason", str(error)))
    entry = AuditEntry(at=desk.clock(), action="rollout.refused", actor=actor, details=details)
    await desk.store.write(audit.append, entry)


def conflict(rollout: Rollout, seen: int) -> RefusedError:
    """Return the error for an order that was decided on something else than there is now."""
    name = rollout.plan.name
    return RefusedError(
        f"the rollout {name} was changed by {rollout.changed_by} at {rollout.changed_at:%H:%M:%SZ}:"
        f" it is {rollout.state}, version {rollout.version}, and this was decided on version {seen}",
        hint=f"fleet rollout status {name}",
    )


def _why(rollout: Rollout, step: Step) -> str:
    """Return why a rollout stands where it stands after a step; what is taken back says why it was halted."""
    kept = rollout.reason if step.event in {RolloutEvent.ROLL_BACK, RolloutEvent.UNDONE} else ""
    return "; ".join(part for part in (kept, step.reason) if part)


_PAST = {
    RolloutEvent.START: "started",
    RolloutEvent.PAUSE: "paused",
    RolloutEvent.RESUME: "resumed",
    RolloutEvent.HALT: "halted",
    RolloutEvent.ROLL_BACK: "rolling-back",
    RolloutEvent.ABANDON: "abandoned",
    RolloutEvent.COMPLETE: "done",
    RolloutEvent.UNDONE: "rolled-back",
}
