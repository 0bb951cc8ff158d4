"""The tables of `docs/explanation/campaigns.md`, rendered from the core that runs.

`python -m tests.rollout_tables` writes them into the page; a test tells when that was forgotten.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from fleet.core.rollout import (
    DEVICE_TRANSITIONS,
    RULES,
    TRANSITIONS,
    DeviceEvent,
    DeviceState,
    RolloutEvent,
    RolloutState,
)
from fleet.ra.campaigns.changes import ROLL_BACK

PAGE = Path(__file__).parents[1] / "docs/explanation/campaigns.md"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rollout_table() -> str:
    rows = (
        [state.value, *(TRANSITIONS.get((state, event), "") for event in RolloutEvent)]
        for state in RolloutState
    )
    return _table(["state", *(event.value for event in RolloutEvent)], rows)


def device_table() -> str:
    rows = (
        [state.value, *(DEVICE_TRANSITIONS.get((state, event), "") for event in DeviceEvent)]
        for state in DeviceState
    )
    return _table(["device", *(event.value for event in DeviceEvent)], rows)


def gate_table() -> str:
    return _table(["rule", "when it holds, and what follows"], RULES.items())


def roll_back_table() -> str:
    return _table(["kind", "a roll-back"], ((kind.value, text) for kind, text in ROLL_BACK.items()))


TABLES = {
    "rollout": rollout_table,
    "device": device_table,
    "gate": gate_table,
    "roll-back": roll_back_table,
}


def filled(page: str) -> str:
    """Return the page with every table as it is now."""
    for name, render in TABLES.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end: {name} -->)"
        page, count = re.subn(pattern, rf"\g<1>{render()}\n\g<2>", page, flags=re.DOTALL)
        assert count == 1, name
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
