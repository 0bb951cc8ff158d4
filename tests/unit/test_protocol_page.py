"""The page on the life of a certificate shows the tables that run, and names each counter-example."""

import re
from pathlib import Path

from tests.protocol_tables import PAGE, TABLES, filled

COUNTER_EXAMPLES = Path(__file__).with_name("test_counter_examples.py")


def test_the_tables_of_the_page_are_those_of_the_cores() -> None:
    page = PAGE.read_text()
    assert page == filled(page), "run: python -m tests.protocol_tables"


def test_each_table_tells_something() -> None:
    assert [name for name, table in TABLES.items() if table().count("\n") < 3] == []


def test_each_counter_example_of_the_page_is_a_test_and_each_test_is_on_the_page() -> None:
    named = set(re.findall(r"^- \*\*(\w)\*\*", PAGE.read_text(), re.MULTILINE))
    tested = set(re.findall(r"^def test_([1-9a-w])_", COUNTER_EXAMPLES.read_text(), re.MULTILINE))
    assert named == {found.upper() for found in tested}
    assert len(named) == 32
