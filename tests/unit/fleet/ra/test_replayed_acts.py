"""A restore knows every act that the server writes on its audit trail: none is lost without a word."""

import ast
from collections.abc import Iterator
from pathlib import Path

import fleet
from fleet.ra.keeping.replay_acts import EFFECTS, LOST, TOLD_ONLY


def acts(source: str) -> Iterator[str]:
    """Yield the actions of the audit entries that a module makes, as far as they stand there as texts."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="AuditEntry"), keywords=keywords):
                for keyword in keywords:
                    if keyword.arg == "action" and isinstance(keyword.value, ast.Constant):
                        yield str(keyword.value.value)


def test_every_act_on_the_trail_is_done_again_or_harmless_or_told_to_be_lost() -> None:
    root = Path(fleet.__file__).parent
    found = {act for module in root.rglob("*.py") for act in acts(module.read_text(encoding="utf-8"))}
    assert len(found) > 20
    assert found - EFFECTS.keys() - TOLD_ONLY - LOST == set()


def test_no_act_is_two_of_these() -> None:
    assert len(EFFECTS.keys() | TOLD_ONLY | LOST) == len(EFFECTS) + len(TOLD_ONLY) + len(LOST)
