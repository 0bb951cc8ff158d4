"""Every world that the two real cores can come to, within the scenarios' bounds: hundreds of thousands.

It is no proof beyond the bounds. The numbers are printed, so that a run shows what it has visited.
"""

import functools

import pytest

from tests.exploration.scenarios import WIDE
from tests.exploration.search import Result, explore

AT_LEAST = 100_000


@functools.cache
def found(name: str) -> Result:
    return explore(WIDE[name])


@pytest.mark.parametrize("name", WIDE)
def test_no_world_is_unsafe_and_each_can_end_well(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = found(name)
    with capsys.disabled():
        print(f"\n{result}", end="")
    assert result.violation is None, "\n".join(result.trace)


def test_the_exploration_is_wide(capsys: pytest.CaptureFixture[str]) -> None:
    results = [found(name) for name in WIDE]
    states, seconds = sum(one.states for one in results), sum(one.seconds for one in results)
    with capsys.disabled():
        print(f"\nexplored {states:,} states of both cores in {seconds:.0f} s", end="")
    assert states >= AT_LEAST
