"""Keeps every broker's list equal to the store's: a snapshot when in doubt, else changes without a gap.

It never computes a difference of its own: the store hands out changes with the sequence numbers of their
commits, and whatever does not fit is followed by the whole set.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta

from fleet.errors import FleetError, SequenceGapError
from fleet.grants import Classes
from fleet.model import AllowlistChange, CutOff, Session
from fleet.ports import Store, SupervisedBroker
from fleet.ra.access_rules import classes_in_force
from fleet.store import allowlist

_REMEMBERED_CHANGES = 1024
_RETRY_SECONDS = 2.0
_MANY_CHANGES = 500
"""A change takes a broker about a millisecond, for it is kept on its disk."""

_log = logging.getLogger(__name__)


class BrokerLink:
    """All brokers of the fleet, as the use cases see them. With no broker, every call is done at once."""

    def __init__(self, store: Store, brokers: Sequence[SupervisedBroker]) -> None:
        self._followers = tuple(_Follower(store, broker) for broker in brokers)

    @property
    def brokers(self) -> tuple[SupervisedBroker, ...]:
        """The brokers themselves."""
        return tuple(follower.broker for follower in self._followers)

    async def run(self) -> None:
        """Follow the store until cancelled."""
        async with asyncio.TaskGroup() as group:
            for follower in self._followers:
                group.create_task(follower.run())

    async def synchronise(self) -> None:
        """Give every broker the whole set now; raises `FleetError` when one does not take it."""
        for follower in self._followers:
            await follower.snapshot()

    async def reach(self, sequence: int) -> tuple[CutOff, ...]:
        """Make every broker apply all changes up to `sequence`; return the sessions that this one ended.

        Raises:
            UnreachableError: a broker does not answer; it gets the whole set when it is back.
        """
        ended: list[CutOff] = []
        for follower in self._followers:
            ended += await follower.reach(sequence)
        return tuple(ended)

    async def govern(self) -> None:
        """Make every broker follow the access policy as the store has it, for live sessions too.

        Raises:
            FleetError: a broker does not take it; it gets it with the whole set when it is back.
        """
        for follower in self._followers:
            await follower.govern()

    async def kick(self, name: str) -> tuple[CutOff, ...]:
        """Drop the live sessions of a broker name everywhere; they may come back."""
        ended: list[CutOff] = []
        for broker in self.brokers:
            ended += await broker.kick(name)
        return tuple(ended)

    async def sessions(self) -> tuple[Session, ...]:
        """Return the live sessions of all brokers."""
        found: list[Session] = []
        for broker in self.brokers:
            found += await broker.sessions()
        return tuple(found)

    async def publish_crls(self, crls: Sequence[bytes]) -> None:
        """Give every broker its second layer."""
        for broker in self.brokers:
            await broker.publish_crls(crls)

    async def stamp(self) -> int:
        """Return the place in the brokers' order that now is; 0 where there is no broker."""
        return max([await broker.stamp() for broker in self.brokers], default=0)

    def age(self) -> timedelta | None:
        """Return the age of the oldest list, or None where there is no broker."""
        return max((broker.age() for broker in self.brokers), default=None)


class _Follower:
    """One broker and how far it has come."""

    def __init__(self, store: Store, broker: SupervisedBroker) -> None:
        self.broker = broker
        self._store = store
        self._lock = asyncio.Lock()
        self._applied: int | None = None
        self._governed: Classes | None = None
        self._ended: OrderedDict[int, tuple[CutOff, ...]] = OrderedDict()

    async def run(self) -> None:
        while True:
            reason = await self.broker.doubtful()
            _log.info("the broker's list is replaced: %s", reason)
            try:
                await self.snapshot()
            except FleetError as error:
                _log.warning("the broker did not take its list: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def snapshot(self) -> tuple[CutOff, ...]:
        """Give the broker the whole set."""
        async with self._lock:
            return await self._replace()

    async def govern(self) -> None:
        async with self._lock:
            await self._govern()

    async def reach(self, sequence: int) -> tuple[CutOff, ...]:
        async with self._lock:
            if self._applied is None or self._applied < sequence:
                await self._catch_up(sequence)
            return self._ended.get(sequence, ())

    async def _catch_up(self, sequence: int) -> None:
        if self._applied is not None and sequence - self._applied > _MANY_CHANGES:
            self._applied = None  # the whole list is there sooner
        while self._applied is not None and self._applied < sequence:
            changes = await self._store.read(allowlist.changes_after, self._applied)
            if not changes:
                break  # they were pruned: only the whole list helps
            for change in changes:
                await self._apply(change)
        if self._applied is None or self._applied < sequence:
            self._remember(sequence, await self._replace())

    async def _apply(self, change: AllowlistChange) -> None:
        if self._applied is None:
            return
        try:
            if self._governed is None or {each.access for each in change.added} - self._governed.keys() - {0}:
                await self._govern()
            self._remember(change.sequence, tuple(await self.broker.change(change)))
        except SequenceGapError as error:
            _log.warning("%s; the broker gets the whole list", error)
            self._applied = None
        except FleetError:
            self._applied = None  # it may have applied the change or not: in doubt
            raise
        else:
            self._applied = change.sequence

    async def _govern(self) -> None:
        """Tell what each class may do; one that a broker was not told of may do nothing."""
        classes = await self._store.read(classes_in_force, None)
        if classes != self._governed:
            self._governed = None
            await self.broker.govern(classes)
            self._governed = classes

    async def _replace(self) -> tuple[CutOff, ...]:
        """Replace the list; who is gone afterwards was cut off within the time that this took."""
        self._applied = self._governed = None
        await self._govern()
        listed = await self._store.read(allowlist.snapshot, None)
        before = await self.broker.sessions()
        started = time.perf_counter()
        await self.broker.replace(listed)
        after = {(session.client_id, session.serial) for session in await self.broker.sessions()}
        took_ms = (time.perf_counter() - started) * 1000
        self._applied = listed.sequence
        return tuple(
            CutOff(broker=session.broker, name=session.name, serial=session.serial, cut_off_ms=took_ms)
            for session in before
            if (session.client_id, session.serial) not in after
        )

    def _remember(self, sequence: int, ended: tuple[CutOff, ...]) -> None:
        self._ended[sequence] = ended
        if len(self._ended) > _REMEMBERED_CHANGES:
            self._ended.popitem(last=False)
