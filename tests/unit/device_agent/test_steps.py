"""Device, server and CLI name the failing step alike: one list, and each problem has its row."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_agent.trouble import _WORDS as OWN_WORDS
from device_agent.trouble import DISCONNECTED, KEY_LOST, Trouble, failing_step
from device_agent.wire.problems import ProblemCode
from device_agent.wire.steps import STEPS, Step, step_of

ROOT = Path(__file__).parents[3]
USERS = ("device_agent/trouble.py", "fleet/ra/requests/answer.py", "fleet/ra/refusals.py")


def test_every_problem_belongs_to_one_step() -> None:
    assert set(STEPS) == set(ProblemCode)
    assert all(step_of(code) is STEPS[code] for code in ProblemCode)


def test_a_problem_of_a_later_version_has_no_step_yet() -> None:
    assert step_of("quantum-entangled") is None


@pytest.mark.parametrize("word", [*OWN_WORDS.values(), KEY_LOST, DISCONNECTED])
def test_every_word_of_the_devices_own_belongs_to_a_step(word: str) -> None:
    assert isinstance(failing_step(word), Step)


def test_a_trouble_says_its_step_as_the_server_would() -> None:
    trouble = Trouble(word="bad-csr", text="x", since=datetime.now(UTC))
    assert trouble.step is STEPS[ProblemCode.BAD_CSR] is Step.KEY


@pytest.mark.parametrize("user", USERS)
def test_whoever_names_a_step_takes_it_from_the_list(user: str) -> None:
    tree = ast.parse((ROOT / user).read_text())
    imported = [
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None
    ]
    assert "device_agent.wire.steps" in imported
