"""The steps of a rollover after its keys are made: publish, switch, retire, abandon; or a rehearsal of one.

Each step is one commit, judged on what stands at that moment, and then made known. A rehearsal judges the
same and writes nothing. Every step may be ordered again: what was done is done once.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from fleet.ca.hierarchy import BOOTSTRAP_REALM, FLEET_REALM
from fleet.core.authority import AuthorityEvent, AuthorityRecord, AuthorityState
from fleet.core.authority import after as authority_after
from fleet.core.rollover import (
    Heard,
    Insistence,
    Need,
    Rollover,
    RolloverEvent,
    after,
    require_heard,
    require_unneeded,
)
from fleet.errors import NotFoundError, RefusedError
from fleet.model import Purpose
from fleet.ports import Transaction
from fleet.ra.authority.authorities import reload_authority
from fleet.ra.authority_changes import Change, change, find
from fleet.ra.context import Context
from fleet.ra.noticing import post_soon
from fleet.ra.own.own_renewal import follow_own
from fleet.ra.succession.rollover import rollover_entry
from fleet.store import audit
from fleet.store.authorities import list_authorities
from fleet.store.choices import was_bundle_told
from fleet.store.notices import want_notices
from fleet.store.rollovers import NeedQuery, newest_rollover, save_rollover, who_needs
from fleet.store.trust import HeardQuery, publish_bundle, who_heard

_GIVEN_UP = frozenset({AuthorityState.RETIRED, AuthorityState.COMPROMISED})
_OWN = {
    FLEET_REALM: frozenset({Purpose.SERVER, Purpose.SERVICE, Purpose.OPERATOR, Purpose.STATION}),
    BOOTSTRAP_REALM: frozenset({Purpose.CLAIM}),
}
"""What the home itself has from the CAs of a realm, and gets anew from those that take over."""


class Mode(StrEnum):
    """Whether a step is taken or only judged."""

    ACT = "act"
    REHEARSE = "rehearse"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOrder:
    """What an operator orders for the rollover of a realm."""

    realm: str
    event: RolloverEvent
    actor: str
    at: datetime
    insistence: Insistence = Insistence.WAIT
    mode: Mode = Mode.ACT
    anchor: str = ""
    """Of a root's rollover the new root, hex SHA-256 of its DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaChange:
    """What a step makes of one CA."""

    name: str
    before: AuthorityState
    after: AuthorityState


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """What a step did, or in a rehearsal what it would do."""

    rollover: Rollover
    """As it stands after the step."""
    changes: tuple[CaChange, ...] = ()
    told: int = 0
    """Devices that are told of a bundle by it."""
    heard: Heard
    need: Need
    refusal: str = ""
    """In a rehearsal, why the step would be refused now."""


async def take_step(context: Context, order: StepOrder) -> Advanced:
    """Take a step, or rehearse it.

    Raises:
        NotFoundError: the realm has no rollover.
        RefusedError: it cannot be taken now, and by whom it is held up.
        FleetError: it stands on record, and something does not know it yet: order it again.
    """
    if order.mode is Mode.REHEARSE:
        return await context.store.read(rehearse, replace(order, anchor=newest_anchor(context, order.realm)))
    async with context.in_force.changing:
        advanced = await context.store.write(
            advance, replace(order, anchor=newest_anchor(context, order.realm))
        )
    if order.event is not RolloverEvent.PUBLISH:
        # Also when it is ordered again: the last time may have stopped before anybody was told.
        await reload_authority(context)
    if order.event is RolloverEvent.SWITCH:
        await _stop_old(context, advanced.rollover, order)
        await _follow_own(context, advanced.rollover)
    await post_soon(context)
    return advanced


async def _stop_old(context: Context, rollover: Rollover, order: StepOrder) -> None:
    """Let the old CAs sign no more, now that the new ones do: there is no moment at which none does."""
    async with context.in_force.changing:
        stopped = await context.store.write(stop_old, (rollover, order))
    if stopped:
        await reload_authority(context)


async def stop_old(tx: Transaction, ordered: tuple[Rollover, StepOrder]) -> bool:
    """Record that what a rollover gives up has stopped; return whether it had not before."""
    rollover, order = ordered
    stopped = False
    for name in rollover.gives_up:
        if (await find(tx, name)).state is AuthorityState.ACTIVE:
            await change(tx, AuthorityEvent.STOPPED, Change(name=name, actor=order.actor, at=order.at))
            stopped = True
    return stopped


async def rehearse(tx: Transaction, order: StepOrder) -> Advanced:
    """Return what a step would do, and what holds it up."""
    rollover = await require_rollover(tx, order.realm)
    heard, need = await standing(tx, rollover, order.anchor)
    refusal, changes = "", tuple[CaChange, ...]()
    try:
        _require(rollover, order, heard, need)
    except RefusedError as error:
        refusal = str(error)
    try:
        changes = await _ca_changes(tx, rollover, order.event)
        rollover = replace(rollover, state=after(rollover, order.event))
    except RefusedError as error:
        refusal = refusal or str(error)
    told = 0 if _published(rollover, order.event) is None else heard.agents
    return Advanced(
        rollover=rollover, changes=_real(changes), told=told, heard=heard, need=need, refusal=refusal
    )


async def advance(tx: Transaction, order: StepOrder) -> Advanced:
    """Judge a step and record all that it changes: one commit."""
    before = await require_rollover(tx, order.realm)
    heard, need = await standing(tx, before, order.anchor)
    rollover = replace(before, state=after(before, order.event))
    if rollover == before and order.event is not RolloverEvent.PUBLISH:
        return Advanced(rollover=before, heard=heard, need=need)
    _require(before, order, heard, need)
    await _require_untold(tx, before, order.event)
    rollover = replace(rollover, changed_at=order.at)
    changes = await _ca_changes(tx, rollover, order.event)
    for name, event in await _effects_on_record(tx, rollover, order.event):
        if event is not AuthorityEvent.STOPPED and (await find(tx, name)).state not in _GIVEN_UP:
            await change(tx, event, Change(name=name, actor=order.actor, at=order.at))
    told = await _publish(tx, rollover, order)
    await save_rollover(tx, rollover)
    forced = heard.missing if order.insistence is Insistence.GO_ON else 0
    await audit.append(tx, rollover_entry(rollover, actor=order.actor, not_heard_of=forced))
    return Advanced(rollover=rollover, changes=_real(changes), told=told, heard=heard, need=need)


async def _require_untold(tx: Transaction, rollover: Rollover, event: RolloverEvent) -> None:
    """Let no root be given up that a rollout has had devices trust.

    Raises:
        RefusedError: some were told of its bundle ahead of the others.
    """
    if event is RolloverEvent.ABANDON and await was_bundle_told(tx, rollover.realm, rollover.version or 0):
        raise RefusedError(
            f"a rollout has told devices of the trust bundle {rollover.version} of {rollover.realm}:"
            " who took it goes on trusting the new root",
            hint=f"fleet ca rollover publish {rollover.realm} leads all of them on",
        )


async def require_rollover(tx: Transaction, realm: str) -> Rollover:
    """Return the rollover of a realm that was begun last. Raises `NotFoundError`."""
    found = await newest_rollover(tx, realm)
    if found is None:
        raise NotFoundError(
            f"nothing of {realm} is being rolled over",
            hint=f"the steps take the realm: {realm.partition('/')[0]}"
            if "/" in realm
            else "fleet ca rollover prepare REALM",
        )
    return found


async def standing(tx: Transaction, rollover: Rollover, anchor: str) -> tuple[Heard, Need]:
    """Return who holds the bundle of a rollover, and who still needs what it gives up."""
    issuers = [await find(tx, name) for name in rollover.gives_up]
    query = NeedQuery(issuers=tuple(one.issuer for one in issuers if not one.is_root))
    if rollover.version is None:
        return Heard(), await who_needs(tx, query)
    heard = await who_heard(
        tx, HeardQuery(realm=rollover.realm, version=rollover.version, anchor=anchor or "-")
    )
    return heard, await who_needs(tx, query)


def _require(rollover: Rollover, order: StepOrder, heard: Heard, need: Need) -> None:
    after(rollover, order.event)
    if order.event is RolloverEvent.SWITCH:
        require_heard(rollover, heard, order.insistence)
    if order.event is RolloverEvent.RETIRE:
        silent = Need(count=heard.missing, names=heard.silent)
        require_unneeded(rollover, need if need.count or rollover.version is None else silent)


def _effects(rollover: Rollover, event: RolloverEvent) -> tuple[tuple[str, AuthorityEvent], ...]:
    """Return what a step does to which CA; what takes over goes first."""
    match event:
        case RolloverEvent.SWITCH:
            brings = [(name, AuthorityEvent.ACTIVATED) for name in rollover.brings]
            return (*brings, *((name, AuthorityEvent.STOPPED) for name in rollover.gives_up))
        case RolloverEvent.RETIRE:
            return tuple((name, AuthorityEvent.RETIRED) for name in rollover.gives_up)
        case RolloverEvent.ABANDON:
            return tuple((name, AuthorityEvent.RETIRED) for name in rollover.brings)
        case _:
            return ()


async def _ca_changes(tx: Transaction, rollover: Rollover, event: RolloverEvent) -> tuple[CaChange, ...]:
    effects = await _effects_on_record(tx, rollover, event)
    return tuple([await _ca_change(tx, name, effect) for name, effect in effects])


async def _effects_on_record(
    tx: Transaction, rollover: Rollover, event: RolloverEvent
) -> tuple[tuple[str, AuthorityEvent], ...]:
    """Return what a step does; a root that is announced and not made yet is no CA."""
    known = {record.folder for record in await list_authorities(tx)}
    return tuple((name, effect) for name, effect in _effects(rollover, event) if name in known)


async def _ca_change(tx: Transaction, name: str, event: AuthorityEvent) -> CaChange:
    record: AuthorityRecord = await find(tx, name)
    following = record.state if record.state in _GIVEN_UP else authority_after(record, event)
    return CaChange(name=name, before=record.state, after=following)


def _real(changes: tuple[CaChange, ...]) -> tuple[CaChange, ...]:
    return tuple(one for one in changes if one.before is not one.after)


def _published(rollover: Rollover, event: RolloverEvent) -> int | None:
    """Return the version of the bundle that a step puts in force."""
    if rollover.version is None:
        return None
    return {RolloverEvent.PUBLISH: rollover.version, RolloverEvent.RETIRE: rollover.version + 1}.get(event)


async def _publish(tx: Transaction, rollover: Rollover, order: StepOrder) -> int:
    version = _published(rollover, order.event)
    if version is None:
        return 0
    await publish_bundle(tx, rollover.realm, version, at=order.at)
    return await want_notices(tx, rollover.realm)


def newest_anchor(context: Context, realm: str) -> str:
    """Return the newest root of a realm: an older agent tells which roots it holds, and no version."""
    roots = [root for root in context.authority.roots if root.realm == realm]
    return roots[-1].anchor if roots else ""


async def _follow_own(context: Context, rollover: Rollover) -> None:
    """Let the home have what it needs of the new CAs; the old ones go on where that fails."""
    if purposes := _OWN.get(rollover.realm):
        await follow_own(context, purposes)
