"""The page on campaigns says what the core does."""

from tests.rollout_tables import PAGE, filled


def test_the_tables_of_the_page_are_those_of_the_core() -> None:
    page = PAGE.read_text()
    assert page == filled(page), "run: python -m tests.rollout_tables"
