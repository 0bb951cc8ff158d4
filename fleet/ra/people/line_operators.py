"""People who work at a station: each has a name there, and a badge or PIN of which a verifier is kept."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret
from fleet.core.badge import SALT_BYTES, salt_of, verifier_of, who_shows
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.ra.people.stations import require_open
from fleet.store import audit, line_operators
from fleet.store.line_operators import LineOperatorRecord

_MOST = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    operator: LineOperatorRecord
    badge: Secret
    actor: str
    at: datetime


async def add_line_operator(
    context: Context, station: str, name: str, *, badge: Secret, actor: str
) -> LineOperatorRecord:
    """Let somebody work at a station; the badge or PIN is hashed here, and forgotten.

    Raises:
        BadInputError: the name or the badge is none.
        NotFoundError: there is no such station. RefusedError: the name or the badge is taken there.
    """
    now = context.clock()
    known = await context.store.read(line_operators.list_line_operators, station)
    # One salt for a station: who shows a badge without a name is looked for with one hash.
    shared = next((one.verifier for one in known if one.verifier), "")
    salt = salt_of(shared) if shared else context.randomness(SALT_BYTES)
    try:
        verifier = verifier_of(badge, salt=salt)
        name = parse_device_id(name)
    except MalformedMessageError as error:
        raise BadInputError(str(error), hint="fleet station operator add --help") from error
    operator = LineOperatorRecord(station=station, name=name, verifier=verifier, added_at=now)
    await context.store.write(_add, _Act(operator=operator, badge=badge, actor=actor, at=now))
    return operator


async def list_line_operators(desk: Desk, station: str) -> tuple[LineOperatorRecord, ...]:
    """Return who works, or worked, at a station."""
    return await desk.store.read(line_operators.list_line_operators, station)


async def remove_line_operator(desk: Desk, station: str, name: str, *, actor: str) -> None:
    """Let somebody work at a station no more, from its next sync on. Raises `NotFoundError`."""
    now = desk.clock()
    gone = LineOperatorRecord(station=station, name=name, verifier="", added_at=now, removed_at=now)
    await desk.store.write(_remove, _Act(operator=gone, badge=Secret(""), actor=actor, at=now))


async def _add(tx: Transaction, act: _Act) -> None:
    operator = act.operator
    station = await require_open(tx, operator.station)
    known = await line_operators.list_line_operators(tx, station.name)
    if any(one.name == operator.name for one in known):
        raise RefusedError(
            f"there is, or was, {operator.name} at {station.name}",
            hint=f"choose another name: fleet station operator list {station.name}",
        )
    if len(known) >= _MOST:
        raise RefusedError(f"station {station.name} has {_MOST} operators", hint="fleet station add another")
    working = [(one.name, one.verifier) for one in known if one.removed_at is None]
    if who_shows(act.badge, working) is not None:
        raise RefusedError("somebody has this badge or PIN already", hint="choose another one")
    await line_operators.insert_line_operator(tx, operator)
    await _tell(tx, act, "station.operator-added", domain=station.domain)


async def _remove(tx: Transaction, act: _Act) -> None:
    station, name = act.operator.station, act.operator.name
    if not await line_operators.end_line_operator(tx, act.operator):
        raise NotFoundError(
            f"nobody called {name} works at {station}", hint=f"fleet station operator list {station}"
        )
    found = await require_open(tx, station)
    await _tell(tx, act, "station.operator-removed", domain=found.domain)


async def _tell(tx: Transaction, act: _Act, action: str, *, domain: str) -> None:
    details = (("name", act.operator.station), ("operator", act.operator.name))
    await audit.append(
        tx, AuditEntry(at=act.at, action=action, actor=act.actor, domain=domain, details=details)
    )
