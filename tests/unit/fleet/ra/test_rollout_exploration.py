"""Rollouts in any order of events: two operators, devices that come and fail, a server that dies in between.

Whatever happens, what is counted is what is there, no wave is told before the one before it has passed, and
with the faults off the rollout comes to its end.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.core.rollout import RolloutEvent, RolloutState
from fleet.errors import RefusedError, StoreError
from fleet.ports import Store, Transaction, Work
from fleet.ra.campaigns.conduct import Pace
from fleet.ra.campaigns.orders import Insistence
from tests.desk import at_desk
from tests.homes import FleetHome
from tests.rollouts import Field, plan_text

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")
_State, _Event = RolloutState, RolloutEvent
NAMES = tuple(f"d-{number}" for number in range(8))
ORDERS = (_Event.START, _Event.PAUSE, _Event.RESUME, _Event.HALT, _Event.ROLL_BACK, _Event.ABANDON)
ENDS = {_State.DONE, _State.ROLLED_BACK, _State.ABANDONED}

steps = st.one_of(
    st.tuples(st.just("tick"), st.sampled_from((1, 30, 700))),
    st.tuples(st.just("order"), st.sampled_from(ORDERS)),
    st.tuples(st.just("stale"), st.sampled_from(ORDERS)),
    st.tuples(st.just("renew"), st.integers(0, len(NAMES) - 1)),
    st.tuples(st.just("fail"), st.integers(0, len(NAMES) - 1)),
    st.tuples(st.just("crash"), st.integers(0, 3)),
)


class CrashingStore:
    """`ports.Store` whose process dies at a write: before it is committed, or just after."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lives: int | None = None

    async def write(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        if self.lives is None:
            return await self._store.write(work, argument)
        self.lives -= 1
        if self.lives < 0:
            raise StoreError("the server died before the commit")
        found = await self._store.write(work, argument)
        if self.lives == 0:
            raise StoreError("the server died after the commit")
        return found

    async def read(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        return await self._store.read(work, argument)

    async def search(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        return await self._store.search(work, argument)

    async def close(self) -> None:
        await self._store.close()


class World:
    """A field with a store that can crash, and what must be so after each step."""

    def __init__(self, field: Field, store: CrashingStore) -> None:
        self.field, self.store = field, store
        self.seen = 1

    async def do(self, step: tuple[str, object]) -> None:
        field = self.field
        try:
            match step:
                case ("tick", int(seconds)):
                    await field.tick(after=timedelta(seconds=seconds))
                case ("order", RolloutEvent() as event):
                    await field.order(event, insistence=Insistence.GO_ON)
                case ("stale", RolloutEvent() as event):
                    await field.order(event, seen=self.seen)
                case ("renew", int(number)):
                    await field.renew(NAMES[number])
                case ("fail", int(number)):
                    await field.trouble(NAMES[number], "key-store")
                case ("crash", int(lives)):
                    await self._crash(lives)
        except RefusedError:
            pass
        await self.check()

    async def _crash(self, lives: int) -> None:
        """Die at some write of a tick, and come back with nothing but what is in the store."""
        self.store.lives = lives
        with suppress(StoreError):
            await self.field.tick(after=timedelta(seconds=5))
        self.store.lives, self.field.pace = None, Pace()

    async def check(self) -> None:
        view = await self.field.view()
        counted = await self.field.desk.context.store.read(_count, None)
        for wave in view.waves:
            told = {state.value: count for state, count in wave.standing.tally.by_state()}
            assert told == {state: counted.get((wave.number, state), 0) for state in told}
            before = view.waves[: wave.number - 1]
            begun = wave.standing.tally.began - wave.standing.tally.out
            assert not begun or all(one.passed_at is not None for one in before), "a wave came too early"
        assert view.rollout.version >= self.seen
        self.seen = view.rollout.version

    async def finish(self) -> None:
        """Come to an end, with the faults off: every device is well, and operators go on in spite of all."""
        for _ in range(40):
            state = (await self.field.view()).rollout.state
            if state in ENDS:
                return
            if state is not _State.ROLLING_BACK:
                event = _Event.START if state is _State.PLANNED else _Event.RESUME
                await self.field.order(event, insistence=Insistence.GO_ON)
            await self.field.renew(*NAMES)
            await self.do(("tick", 30))
            await self.do(("tick", 700))
        raise AssertionError(f"it stands still: {await self.field.view()}")


async def _count(tx: Transaction, _argument: None) -> dict[tuple[int, str], int]:
    rows = await tx.fetch_all("SELECT wave, state, COUNT(*) FROM rollout_devices GROUP BY wave, state")
    return {(int(str(row[0])), str(row[1])): int(str(row[2])) for row in rows}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(todo=st.lists(steps, max_size=20))
def test_whatever_happens_the_counts_are_right_the_waves_in_order_and_an_end_is_in_reach(
    fleet_home: FleetHome, todo: list[tuple[str, object]]
) -> None:
    async def explore() -> None:
        with TemporaryDirectory() as folder:
            async with at_desk(fleet_home, Path(folder)) as desk:
                store = CrashingStore(desk.context.store)
                context = replace(desk.context, store=store)
                field = Field(desk=replace(desk, context=context), pace=Pace())
                await field.plant(*NAMES)
                await field.plan(plan_text(waves='["2", "3", "rest"]'))
                world = World(field, store)
                for step in todo:
                    await world.do(step)
                await world.finish()

    asyncio.run(explore())
