"""Gives up an issuing CA that has stopped, once nobody lives by it: one that takes no part in a rollover.

What was revoked as compromised is never believed again; what only stopped is merely of no use any more.
"""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import serial_hex
from fleet.core.authority import UNCERTIFIED, AuthorityEvent, AuthorityState, after
from fleet.core.rollover import Need
from fleet.errors import RefusedError
from fleet.model import CertificateState
from fleet.ports import Transaction
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority_changes import Change, change, find
from fleet.ra.context import Context
from fleet.ra.succession.rollover_steps import Mode
from fleet.store.certificates import load_certificate
from fleet.store.rollovers import NeedQuery, who_needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """A CA that an operator gives up."""

    name: str
    serial: str
    """Of its own certificate."""
    actor: str
    at: datetime
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What became of it, or in a rehearsal would; and who needs it."""

    name: str
    before: AuthorityState
    after: AuthorityState
    need: Need


async def retire_authority(context: Context, name: str, *, actor: str, mode: Mode) -> Retired:
    """Give an issuing CA up.

    Raises:
        NotFoundError: there is no such CA.
        RefusedError: it still signs, it is a root, or somebody needs it, who is named.
    """
    record = await context.store.read(find, name)
    if record.is_root:
        raise RefusedError(
            f"{name} is a root: it goes when another has followed it",
            hint=f"fleet ca rollover prepare {record.realm}",
        )
    certified = record.state not in UNCERTIFIED
    own = context.authority.issuer_by_id(record.issuer).certificate if certified else None
    retirement = Retirement(
        name=record.folder,
        serial="" if own is None else serial_hex(own.serial_number),
        actor=actor,
        at=context.clock().replace(microsecond=0),
        mode=mode,
    )
    if mode is Mode.REHEARSE:
        return await context.store.read(_retire, retirement)
    async with context.in_force.changing:
        retired = await context.store.write(_retire, retirement)
    await reload_authority(context)
    return retired


async def _retire(tx: Transaction, retirement: Retirement) -> Retired:
    record = await find(tx, retirement.name)
    need = await who_needs(tx, NeedQuery(issuers=(record.issuer,)))
    event = await _event(tx, retirement.serial)
    state = after(record, event)
    if need.count and state is not record.state:
        names = ", ".join(need.names)
        raise RefusedError(
            f"{need.count} still need the CA {record.folder}: {names}",
            hint="wait until they have renewed; fleet device retire takes out what will not come back",
        )
    if retirement.mode is Mode.ACT:
        await change(tx, event, Change(name=record.folder, actor=retirement.actor, at=retirement.at))
    return Retired(name=record.folder, before=record.state, after=state, need=need)


async def _event(tx: Transaction, serial: str) -> AuthorityEvent:
    row = await load_certificate(tx, serial)
    is_revoked = row is not None and row.state is CertificateState.REVOKED
    return AuthorityEvent.COMPROMISED if is_revoked else AuthorityEvent.RETIRED
