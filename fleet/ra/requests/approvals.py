"""Decides on requests that wait: a person lets a device in, or does not, and only the key that he looked at.

People compare the short code that both sides show. Of two who decide at once, one does; the other is told.
"""

from dataclasses import dataclass, replace

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.errors import NotFoundError, RefusedError
from fleet.model import AuditEntry
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
from fleet.ra.requests.queue import is_over
from fleet.store import audit, waiting
from fleet.store.codes import Grant, GrantKind
from fleet.store.devices import load_device
from fleet.store.waiting import Waiting

CODE_ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which request is meant: by the short code that a device shows, or by its name and its key."""

    short_code: str = ""
    identity: Identity | None = None
    key_hash: str | None = None

    @property
    def said(self) -> str:
        """How the operator named it."""
        return self.short_code if self.identity is None else self.identity.name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    choice: Choice
    act: Act
    code_id: str


async def list_waiting(desk: Desk, limit: int) -> tuple[Waiting, ...]:
    """Return the requests that nobody has decided on, the longest waiting first."""
    found = await desk.store.read(waiting.list_waiting, limit)
    return tuple(each for each in found if not is_over(each, at=desk.clock()))


async def approve(desk: Desk, choice: Choice, *, actor: str, reason: str = "") -> Outcome:
    """Let a device in that waits: its next request is answered with a certificate.

    Raises:
        NotFoundError: no such request waits.
        RefusedError: it was rejected, several keys ask in its name and none is chosen, or the core says no.
    """
    identity, sequence = await desk.store.write(
        _approve, _decision(desk, choice, "device.approved", actor=actor, reason=reason)
    )
    act = Act(identity=identity, action="device.approved", actor=actor, reason=reason, at=desk.clock())
    return await reached(desk, act, sequence)


async def reject(desk: Desk, choice: Choice, *, actor: str, reason: str = "") -> Outcome:
    """Let a device not in: this key of it is refused from now on. Raises as `approve`."""
    decision = _decision(desk, choice, "device.rejected", actor=actor, reason=reason)
    identity = await desk.store.write(_reject, decision)
    return Outcome(identity=identity, action=decision.act.action)


def _decision(desk: Desk, choice: Choice, action: str, *, actor: str, reason: str) -> _Decision:
    nobody = Identity(domain="", device_id="")  # which device it is, the unit of work finds out
    act = Act(identity=choice.identity or nobody, action=action, actor=actor, reason=reason, at=desk.clock())
    return _Decision(choice=choice, act=act, code_id=desk.randomness(CODE_ID_BYTES).hex())


async def _approve(tx: Transaction, decision: _Decision) -> tuple[Identity, int | None]:
    chosen = await _chosen(tx, decision)
    act, identity = replace(decision.act, identity=chosen.identity), chosen.identity
    if await load_device(tx, identity) is None:
        registration = Registration(identity=identity)
        await enlist(tx, Enlisting(registrations=(registration,), actor=act.actor, at=act.at))
    device = await require_in_service(tx, identity)
    await waiting.drop_waiting(tx, identity)
    grant = Grant(code_id=decision.code_id, kind=GrantKind.APPROVAL, source=act.actor)
    event = events.Grant(code_id=decision.code_id, key_hash=chosen.key_hash)
    sequence = await perform(tx, device, act, (event,), grants=(grant,), key_hash=chosen.key_hash)
    return identity, sequence


async def _reject(tx: Transaction, decision: _Decision) -> Identity:
    chosen, act = await _chosen(tx, decision), decision.act
    await waiting.keep_waiting(tx, replace(chosen, rejected_at=act.at, rejected_by=act.actor))
    details = (("reason", act.reason), ("key_hash", chosen.key_hash), ("short_code", chosen.short_code))
    entry = AuditEntry(
        at=act.at,
        action=act.action,
        actor=act.actor,
        domain=chosen.identity.domain,
        device_id=chosen.identity.device_id,
        details=tuple((name, value) for name, value in details if value),
    )
    await audit.append(tx, entry)
    return chosen.identity


async def _chosen(tx: Transaction, decision: _Decision) -> Waiting:
    choice = decision.choice
    if choice.identity is not None:
        found = await waiting.of_device(tx, choice.identity)
    else:
        found = await waiting.of_code(tx, choice.short_code)
    fitting = [
        each
        for each in found
        if choice.key_hash in {None, each.key_hash} and not is_over(each, at=decision.act.at)
    ]
    undecided = [each for each in fitting if each.rejected_at is None]
    if not fitting:
        raise NotFoundError(
            f"no request of {choice.said} waits for approval", hint="fleet device list --waiting"
        )
    if not undecided:
        raise RefusedError(
            f"the request of {choice.said} was rejected by {fitting[0].rejected_by}",
            hint=f"to let it in all the same: fleet claim create --device {fitting[0].identity.device_id}",
        )
    if len(undecided) > 1:
        raise _several(choice, undecided)
    return undecided[0]


def _several(choice: Choice, requests: list[Waiting]) -> RefusedError:
    codes = ", ".join(f"{each.short_code} is {each.key_hash[:16]}..." for each in requests)
    return RefusedError(
        f"{len(requests)} keys ask in the name of {choice.said}: {codes}",
        hint="approve by the short code that the device shows",
        code=ProblemCode.CODE_CONFLICT,
    )
