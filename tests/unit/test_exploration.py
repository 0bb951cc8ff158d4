"""A little of the exploration, for each run of the unit tests; all of it stands in e2e and faults."""

import pytest

from tests.exploration.search import TooManyStatesError, explore
from tests.exploration.wrong_rules import SMALL, WRONG, explore_wrong


@pytest.mark.parametrize("name", ["renewal", "thief"])
def test_small_worlds_of_the_real_cores_are_safe_and_can_end_well(name: str) -> None:
    result = explore(SMALL[name])
    assert result.violation is None, f"{result}\n" + "\n".join(result.trace)


@pytest.mark.parametrize("name", ["1 switch before confirmed", "5 revoke one serial"])
def test_a_wrong_rule_is_found(name: str) -> None:
    assert (explore_wrong(name).violation or "clean").startswith(WRONG[name].finds)


def test_a_scenario_that_is_too_large_proves_nothing_and_says_so() -> None:
    with pytest.raises(TooManyStatesError):
        explore(SMALL["renewal"], most_states=100)
