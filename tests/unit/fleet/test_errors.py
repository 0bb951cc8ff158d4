"""The error trees: every class has its row in every table, and no error is without one."""

import importlib
import pkgutil

import pytest

import device_agent
import device_agent.errors as agent_errors
import fleet
from fleet.errors import (
    EXIT_CODES,
    LOG_LEVELS,
    PROBLEM_CODES,
    ExitCode,
    FleetError,
    RefusedError,
    exit_code,
    log_level,
    problem_code,
)


def all_below(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in all_below(below))]


@pytest.fixture(scope="module", autouse=True)
def every_module() -> None:
    for package in (fleet, device_agent):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def test_every_class_of_the_tree_has_its_row_in_every_table() -> None:
    tree = [kind for kind in all_below(FleetError) if kind.__module__ == "fleet.errors"]
    assert set(EXIT_CODES) == set(LOG_LEVELS) == set(tree)
    assert set(PROBLEM_CODES) == set(tree) - {RefusedError}


def test_an_adapters_own_error_counts_as_its_base() -> None:
    below = [kind for kind in all_below(FleetError) if kind.__module__ != "fleet.errors"]
    # Who makes its own sentence takes what it is about, and is its base in all else.
    own = [kind for kind in below if "__init__" not in vars(kind)]
    assert own
    for kind in own:
        error = kind("it failed")
        assert isinstance(error, FleetError)
        assert exit_code(error) is not ExitCode.DONE
        assert problem_code(error)
        assert log_level(error)


def test_every_error_of_the_agent_has_an_exit_code() -> None:
    tree = [kind for kind in all_below(agent_errors.AgentError) if kind.__module__ == "device_agent.errors"]
    assert set(agent_errors.EXIT_CODES) == set(tree)
