"""Adds an operator: alone, or for the role security, where the configuration wants it, once another agreed.

Whoever is added by two gets no certificate by that: the key would be in the hands of one of them. He comes in
as one who has lost his, by a key of his own.
"""

from device_agent.wire.identity import Identity
from fleet.core.proposal import ActKind
from fleet.model import Role
from fleet.ra.acts.deciding import Performer
from fleet.ra.acts.guard import MassAct, require_second
from fleet.ra.context import Context
from fleet.ra.people.operators import NewOperator, add_operator, enlist_operator, require_new
from fleet.store.operators import load_operator
from fleet.store.proposals import ProposalRecord

_NAME, _ROLE = "name", "role"


async def add_or_propose(context: Context, name: str, *, role: Role, actor: str) -> NewOperator:
    """Add an operator with a certificate.

    Raises:
        ProposedError: another operator has to agree first.
        FleetError: as `add_operator` does.
    """
    if role is Role.SECURITY:
        await require_new(context, name)
        act = MassAct(
            kind=ActKind.OPERATOR,
            identities=(),
            selection=f"operator {name}",
            role=Role.SECURITY,
            parameters=((_NAME, name), (_ROLE, role.value)),
        )
        await require_second(context, act, actor=actor)
    return await add_operator(context, name, role=role, actor=actor)


async def _find(_context: Context, _proposal: ProposalRecord) -> tuple[Identity, ...]:
    return ()


async def _perform(context: Context, proposal: ProposalRecord, _identities: tuple[Identity, ...]) -> str:
    name, role = proposal.parameter(_NAME), Role(proposal.parameter(_ROLE))
    known = await context.store.read(load_operator, name)
    # Done again after a stop, it finds whom it has added itself.
    if known is None or known.added_at < proposal.proposed_at:
        await enlist_operator(context, name, role=role, actor=proposal.proposed_by)
    return f"{name} added, without a certificate: fleet operator recover {name}"


PERFORMER = Performer(find=_find, perform=_perform)
