"""`[windows]` of `fleet.toml`: the pace after an outage, within bounds."""

from datetime import timedelta

import pytest

from fleet import config
from fleet.errors import BadInputError
from fleet.window_section import WindowsConfig

FLEET = '[fleet]\nname = "acme"\n[domains.prod]\n'


def test_without_the_table_the_defaults_hold() -> None:
    assert config.parse(FLEET).windows == WindowsConfig(a_second=50, outage_minutes=60)


def test_what_it_says_holds() -> None:
    found = config.parse(f"{FLEET}[windows]\na_second = 5\noutage_minutes = 10\n").windows
    assert (found.a_second, found.outage) == (5, timedelta(minutes=10))


@pytest.mark.parametrize("line", ["a_second = 0", "a_second = 1.5", "outage_minutes = 4", "pace = 3"])
def test_what_makes_no_sense_is_refused_by_its_line(line: str) -> None:
    with pytest.raises(BadInputError, match=":5:"):
        config.parse(f"{FLEET}[windows]\n{line}\n")
