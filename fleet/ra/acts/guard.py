"""The one place that counts what an operator's act is about, and asks for a second operator where it is much.

An act that needs one is not done: it is put on record as a proposal, and the caller is told so by an error.
"""

from dataclasses import dataclass, replace

from device_agent.wire.identity import Identity
from fleet.core.proposal import ActKind, selection_digest, why_second
from fleet.errors import RefusedError
from fleet.model import AuditEntry, Role
from fleet.ports import Transaction
from fleet.ra.desk import Desk, ordered_id
from fleet.store import audit, proposals
from fleet.store.proposals import ProposalRecord

MOST_OPEN = 20
"""Proposals of one operator that wait; each keeps the names of its devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MassAct:
    """An act of an operator on devices, before it is done."""

    kind: ActKind
    identities: tuple[Identity, ...]
    """What it would touch, resolved now."""
    selection: str
    """How the operator named them, such as `batch=b1`; shown, and for queries looked up again."""
    role: Role
    """Who may do such an act, and so who may approve it."""
    parameters: tuple[tuple[str, str], ...] = ()
    """What the kind's performer needs besides (`fleet.ra.performers`)."""
    reason: str = ""


class ProposedError(RefusedError):
    """The act needs a second operator; nothing was done, and the proposal is on record."""

    def __init__(self, record: ProposalRecord) -> None:
        super().__init__(
            f"{record.because}: proposal {record.proposal} waits for another operator, and nothing was done",
            hint=f"another operator of the role {record.role}: fleet proposal show {record.proposal}",
        )
        self.proposal = record.proposal


async def require_second(desk: Desk, act: MassAct, *, actor: str) -> None:
    """Let an act pass that one operator may do alone; the same one, proposed again, is the same proposal.

    Raises:
        ProposedError: it needs a second operator, and was put on record as a proposal.
    """
    domains = frozenset(each.domain for each in act.identities)
    total = await desk.store.read(proposals.count_devices, domains) if domains else 0
    rule = desk.config.acts.second
    count = len(set(act.identities))
    total = max(total, count)  # retired ones may be selected, and are not counted among all
    because = why_second(rule, act.kind, count=count, total=total)
    if because:
        made = _proposal(desk, act, actor=actor)
        raise ProposedError(await desk.store.write(_propose, replace(made, because=because, total=total)))


def _proposal(desk: Desk, act: MassAct, *, actor: str) -> ProposalRecord:
    now = desk.clock()
    names = tuple(sorted({each.name for each in act.identities}))
    return ProposalRecord(
        proposal=ordered_id(desk),
        kind=act.kind,
        role=act.role,
        proposed_by=actor,
        selection=act.selection,
        parameters=tuple(sorted((name, value) for name, value in act.parameters if value)),
        reason=act.reason,
        because="",
        total=0,
        digest=selection_digest(names),
        devices=len(names),
        names=names,
        proposed_at=now,
        expires_at=now + desk.config.acts.proposal_lifetime,
    )


async def _propose(tx: Transaction, record: ProposalRecord) -> ProposalRecord:
    if (known := await proposals.same_proposal(tx, record)) is not None:
        return known
    if await proposals.count_open(tx, record.proposed_by) >= MOST_OPEN:
        raise RefusedError(
            f"{record.proposed_by.removeprefix('operator:')} has {MOST_OPEN} proposals that wait",
            hint="fleet proposal withdraw",
        )
    await proposals.insert_proposal(tx, record)
    await audit.append(tx, told(record, "proposal.made", actor=record.proposed_by))
    return record


def told(record: ProposalRecord, action: str, *, actor: str, why: str = "") -> AuditEntry:
    """Return the audit entry of a step of a proposal: what is to be done, and to how many."""
    details = (
        ("proposal", record.proposal),
        ("act", record.kind.value),
        ("selection", record.selection),
        ("devices", str(record.devices)),
        ("digest", record.digest),
        ("reason", record.reason),
        ("proposed_by", "" if actor == record.proposed_by else record.proposed_by),
        ("why", why),
    )
    return AuditEntry(
        at=record.decided_at or record.proposed_at,
        action=action,
        actor=actor,
        details=tuple((name, value) for name, value in details if value),
    )
