"""Lets all devices go on that fit a query and are only suspended; an alarm is looked at one by one."""

import asyncio
from dataclasses import dataclass

from device_agent.wire.identity import Identity
from fleet.errors import NotFoundError, RefusedError
from fleet.model import Alarm
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.devices import resume
from fleet.ra.selection import by_query, selected
from fleet.store.devices import load_device

_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What it did: `passed_over` were not suspended, have an alarm, or are held for another reason."""

    names: tuple[str, ...]
    passed_over: tuple[str, ...]


async def resume_all(context: Context, query: str, *, actor: str, reason: str) -> Resumed:
    """End the suspensions of what fits.

    Raises:
        NotFoundError: nothing fits.
        BadInputError: it is no query, or selects everything without saying so.
    """
    identities = await context.store.search(selected, by_query(query, now=context.clock()))
    if not identities:
        raise NotFoundError("nothing fits the query", hint="fleet device list --query shows what does")
    names, passed_over = list[str](), list[str]()

    async def one(identity: Identity) -> None:
        try:
            if await context.store.read(_is_only_suspended, identity):
                await resume(context, identity, actor=actor, reason=reason)
                names.append(identity.name)
                return
        except RefusedError:
            pass
        passed_over.append(identity.name)

    for start in range(0, len(identities), _AT_ONCE):
        # Handed in together, they share a commit.
        await asyncio.gather(*map(one, identities[start : start + _AT_ONCE]))
    return Resumed(names=tuple(sorted(names)), passed_over=tuple(sorted(passed_over)))


async def _is_only_suspended(tx: Transaction, identity: Identity) -> bool:
    device = await load_device(tx, identity)
    return (
        device is not None
        and device.suspended
        and device.alarm is Alarm.NONE
        and not device.code_conflict
        and not device.revoked
    )
