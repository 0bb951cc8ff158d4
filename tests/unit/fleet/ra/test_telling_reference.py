"""The reference of notifications is what the table of matters says."""

from pathlib import Path

from fleet.core.matters import Matter
from fleet.ra.telling import reference

PAGE = Path(__file__).parents[4] / "docs/reference/notifications.md"


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == reference.text(), "python -m fleet.ra.telling.reference " + str(PAGE)


def test_every_event_stands_on_it_once() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    for matter in Matter:
        assert sum(row.startswith(f"| `{matter}` |") for row in rows) == 1
