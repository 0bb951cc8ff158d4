"""The table of a rollover's life, over every state and every order."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest

from fleet.core.rollover import (
    OPEN,
    TRANSITIONS,
    Heard,
    Insistence,
    Need,
    Rollover,
    RolloverEvent,
    RolloverKind,
    RolloverState,
    after,
    require_heard,
    require_unneeded,
)
from fleet.errors import RefusedError

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
ROOT = Rollover(
    number=1,
    realm="prod",
    kind=RolloverKind.ROOT,
    state=RolloverState.PREPARED,
    gives_up=("prod", "prod/device-1"),
    brings=("prod/root-2", "prod/device-2"),
    version=1,
    started_at=NOON,
    changed_at=NOON,
)


@pytest.mark.parametrize(
    ("kind", "state", "event"), list(product(RolloverKind, RolloverState, RolloverEvent))
)
def test_what_is_not_in_the_table_is_refused_and_what_is_done_twice_changes_nothing(
    kind: RolloverKind, state: RolloverState, event: RolloverEvent
) -> None:
    rollover = replace(ROOT, kind=kind, state=state)
    if (kind, state, event) not in TRANSITIONS:
        with pytest.raises(RefusedError) as caught:
            after(rollover, event)
        assert caught.value.hint
        return
    found = after(rollover, event)
    assert after(replace(rollover, state=found), event) is found


@pytest.mark.parametrize("kind", RolloverKind)
def test_every_open_rollover_can_come_to_its_end(kind: RolloverKind) -> None:
    ways = {(state, found) for (of, state, _), found in TRANSITIONS.items() if of is kind}
    reached = {RolloverState.RETIRED}
    while more := {state for state, found in ways if found in reached} - reached:
        reached |= more
    states = OPEN if kind is RolloverKind.ROOT else OPEN - {RolloverState.PUBLISHED}
    assert states <= reached


def test_what_was_published_is_never_abandoned() -> None:
    with pytest.raises(RefusedError):
        after(replace(ROOT, state=RolloverState.PUBLISHED), RolloverEvent.ABANDON)


def test_a_switch_waits_for_every_agent_and_names_who_is_missing() -> None:
    heard = Heard(agents=30, acknowledged=8, silent=("prod:d1", "prod:d2"))
    with pytest.raises(RefusedError, match=r"22 of 30 .* prod:d1, prod:d2 and 20 more"):
        require_heard(ROOT, heard, Insistence.WAIT)
    require_heard(ROOT, heard, Insistence.GO_ON)
    require_heard(ROOT, Heard(agents=30, acknowledged=30, plain=4), Insistence.WAIT)


def test_a_switch_of_an_issuing_ca_waits_for_nobody() -> None:
    issuing = replace(ROOT, kind=RolloverKind.ISSUING, version=None)
    require_heard(issuing, Heard(agents=1, silent=("prod:d1",)), Insistence.WAIT)


def test_the_old_one_stays_while_somebody_needs_it_and_names_who() -> None:
    with pytest.raises(RefusedError, match="2 still need the old root of prod: prod:d1, prod:d2"):
        require_unneeded(ROOT, Need(count=2, names=("prod:d1", "prod:d2")))
    require_unneeded(ROOT, Need())
