"""People who may act on the fleet: added with a role and a certificate, removed for good."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry, Purpose, Role
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.ra.issue_own import OwnCertificate, OwnRequest, issue_own
from fleet.ra.people.batches import surroundings
from fleet.ra.people.stations import end_own
from fleet.store import audit, operators
from fleet.store.operators import OperatorRecord
from fleet.store.second_factors import drop_factor

LOCAL = "local"
"""How the audit trail calls the owner of the home; no operator may have this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOperator:
    """An operator with a new certificate; the key is in here, and nowhere else."""

    operator: OperatorRecord
    own: OwnCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Addition:
    operator: OperatorRecord
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removal:
    name: str
    actor: str
    reason: str
    at: datetime


async def add_operator(context: Context, name: str, *, role: Role, actor: str) -> NewOperator:
    """Add an operator, and issue the certificate; `operator_files.write_operator` writes what is handed out.

    Raises:
        BadInputError: the name is none.
        RefusedError: there is, or was, an operator of that name.
    """
    record = await enlist_operator(context, name, role=role, actor=actor)
    request = OwnRequest(purpose=Purpose.OPERATOR, name=name, actor=actor)
    own = await issue_own(surroundings(context), request, now=record.added_at)
    return NewOperator(operator=record, own=own)


async def enlist_operator(context: Context, name: str, *, role: Role, actor: str) -> OperatorRecord:
    """Add an operator who has no certificate. Raises as `add_operator`."""
    record = OperatorRecord(
        name=_checked(name),
        role=role,
        added_at=context.clock(),
        added_by=actor.removeprefix("operator:"),
    )
    await context.store.write(_add, _Addition(operator=record, actor=actor))
    return record


async def require_new(desk: Desk, name: str) -> None:
    """Check that a name may be an operator's, and never was. Raises as `add_operator`."""
    if await desk.store.read(operators.load_operator, _checked(name)) is not None:
        raise _known(name)


def _checked(name: str) -> str:
    if name == LOCAL:
        raise RefusedError(
            f"{LOCAL} is what the audit trail calls the owner of the home", hint="choose another name"
        )
    try:
        return parse_domain(name)
    except MalformedMessageError as error:
        raise BadInputError(f"operator {error}", hint="such as ada") from error


def _known(name: str) -> RefusedError:
    return RefusedError(
        f"there is, or was, an operator {name}", hint="choose another name: fleet operator list"
    )


async def list_operators(desk: Desk) -> tuple[OperatorRecord, ...]:
    """Return all operators, removed ones too."""
    return await desk.store.read(operators.list_operators, None)


async def remove_operator(desk: Desk, name: str, *, actor: str, reason: str = "") -> tuple[str, ...]:
    """Remove an operator for good, revoke the certificates, and return their serials.

    Raises:
        NotFoundError: there is no such operator.
        RefusedError: nobody would be left who may do everything.
    """
    removal = _Removal(name=name, actor=actor, reason=reason, at=desk.clock())
    ended = await desk.store.write(_remove, removal)
    desk.crls.note_change()
    return ended


async def _add(tx: Transaction, addition: _Addition) -> None:
    operator = addition.operator
    if await operators.load_operator(tx, operator.name) is not None:
        # A name is used once: the audit trail tells of people by their names.
        raise _known(operator.name)
    await operators.insert_operator(tx, operator)
    details = (("name", operator.name), ("role", operator.role.value))
    await audit.append(
        tx,
        AuditEntry(at=operator.added_at, action="operator.added", actor=addition.actor, details=details),
    )


async def _remove(tx: Transaction, removal: _Removal) -> tuple[str, ...]:
    known = await operators.load_operator(tx, removal.name)
    if known is None or known.removed_at is not None:
        raise NotFoundError(f"there is no operator {removal.name}", hint="fleet operator list")
    left = [
        each
        for each in await operators.list_operators(tx, None)
        if each.removed_at is None and each.role is Role.SECURITY and each.name != removal.name
    ]
    if not left:
        raise RefusedError(
            f"{removal.name} is the last operator of the role security",
            hint="add another one first: fleet operator add NAME --role security",
        )
    await operators.remove_operator(tx, removal.name, at=removal.at)
    await drop_factor(tx, removal.name)
    details = tuple(
        (name, value) for name, value in (("name", removal.name), ("reason", removal.reason)) if value
    )
    entry = AuditEntry(at=removal.at, action="operator.removed", actor=removal.actor, details=details)
    await audit.append(tx, entry)
    return await end_own(tx, entry, purpose=Purpose.OPERATOR, name=removal.name)
