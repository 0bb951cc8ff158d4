"""What became of rollouts after the backup: the trail says how far they were; none goes on by a restore."""

from fleet.core.rollout import SUPERVISED, RolloutState
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.store import rollouts

RESTORED = "the fleet was restored: who was told since the backup is told again when it is resumed"


async def follow_rollout(tx: Transaction, entry: AuditEntry) -> None:
    """Let a rollout that the backup holds stand where the trail says, or halted, where it was under way."""
    details = dict(entry.details)
    state = RolloutState(details["state"])
    if state in SUPERVISED:
        state = RolloutState.HALTED
    await rollouts.set_state(tx, details["rollout"], state, reason=details.get("reason", RESTORED))
