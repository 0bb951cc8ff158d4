"""Lets in devices that wait: their claim was good, but nobody had registered them for its batch.

A device and its key are approved together, and people compare the short code that both sides show.
"""

from dataclasses import dataclass

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.errors import NotFoundError, RefusedError
from fleet.ports import Transaction
from fleet.ra.desk import Desk
from fleet.ra.devices import (
    Act,
    Enlisting,
    Outcome,
    Registration,
    enlist,
    perform,
    reached,
    require_in_service,
)
from fleet.store import waiting
from fleet.store.codes import Grant, GrantKind
from fleet.store.devices import load_device
from fleet.store.waiting import Waiting

CODE_ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Approval:
    act: Act
    key_hash: str | None
    code_id: str


async def list_waiting(desk: Desk, limit: int) -> tuple[Waiting, ...]:
    """Return the devices that wait, the longest waiting first."""
    return await desk.store.read(waiting.list_waiting, limit)


async def approve(
    desk: Desk, identity: Identity, *, actor: str, reason: str = "", key_hash: str | None = None
) -> Outcome:
    """Let a device in that waits: its next request is answered with a certificate.

    Raises:
        NotFoundError: nobody waits under that name, or with that key.
        RefusedError: several keys ask in its name and `key_hash` chooses none, or the core says no.
    """
    act = Act(identity=identity, action="device.approved", actor=actor, reason=reason, at=desk.clock())
    approval = _Approval(act=act, key_hash=key_hash, code_id=desk.randomness(CODE_ID_BYTES).hex())
    return await reached(desk, act, await desk.store.write(_approve, approval))


async def _approve(tx: Transaction, approval: _Approval) -> int | None:
    act, identity = approval.act, approval.act.identity
    chosen = _choose(await waiting.of_device(tx, identity), approval)
    if await load_device(tx, identity) is None:
        registration = Registration(identity=identity)
        await enlist(tx, Enlisting(registrations=(registration,), actor=act.actor, at=act.at))
    device = await require_in_service(tx, identity)
    await waiting.drop_waiting(tx, identity)
    grant = Grant(code_id=approval.code_id, kind=GrantKind.APPROVAL, source=act.actor)
    event = events.Grant(code_id=approval.code_id, key_hash=chosen.key_hash)
    return await perform(tx, device, act, (event,), grants=(grant,), key_hash=chosen.key_hash)


def _choose(requests: tuple[Waiting, ...], approval: _Approval) -> Waiting:
    name = approval.act.identity.name
    fitting = [each for each in requests if approval.key_hash in {None, each.key_hash}]
    if not fitting:
        raise NotFoundError(f"no request of {name} waits for approval", hint="fleet device list")
    if len(fitting) > 1:
        codes = ", ".join(f"{each.short_code} is {each.key_hash[:16]}..." for each in fitting)
        raise RefusedError(
            f"{len(fitting)} keys ask in the name of {name}: {codes}",
            hint="compare the code that the device shows, and approve that key",
            code=ProblemCode.CODE_CONFLICT,
        )
    return fitting[0]
