"""What a notification says, to people and to programs."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.letter import Item, Letter
from fleet.core.matters import MATTERS, Matter, Severity, event_type
from fleet.core.notification import Change
from tests.letters import AT, letter

ITEMS = st.builds(
    Item,
    change=st.sampled_from(Change),
    subject=st.text(min_size=1, max_size=60),
    text=st.text(max_size=120),
    severity=st.sampled_from(Severity),
    at=st.just(AT),
)
LETTERS = st.builds(
    lambda items, matter, more: replace(letter(), items=tuple(items), matter=matter, count=len(items) + more),
    items=st.lists(ITEMS, max_size=8),
    matter=st.none() | st.sampled_from(Matter),
    more=st.integers(0, 900),
)


@given(made=LETTERS)
def test_every_line_is_printable_and_the_title_is_one_of_them(made: Letter) -> None:
    text = made.text()
    assert all(each.isprintable() for each in text.split("\n"))
    assert text.split("\n")[0] == made.title
    if made.count > len(made.items):
        assert f"and {made.count - len(made.items)} more: fleet notice show 7" in text


@given(made=LETTERS)
def test_a_program_gets_a_cloud_event_with_what_the_standard_requires(made: Letter) -> None:
    event = json.loads(made.cloud_event())
    assert event["specversion"] == "1.0"
    assert all(isinstance(event[name], str) and event[name] for name in ("id", "source", "type", "time"))
    assert event["type"] == event_type(made.matter)
    assert event["datacontenttype"] == "application/json"
    assert event["data"]["count"] == made.count
    assert len(event["data"]["items"]) == len(made.items)
    assert b"\n" not in made.cloud_event()
    assert all(name.isascii() and name.isalnum() and name.islower() for name in event)


def test_an_all_clear_says_so_and_asks_for_nothing() -> None:
    (item,) = letter().items
    over = replace(letter(), items=(replace(item, change=Change.CLEARS),))
    assert over.title == "[acme] over: certificates of devices end: prod:d1"
    assert "fleet notice ack" not in over.text()
    assert MATTERS[Matter.LEAF_ENDS].fix not in over.text()


def test_what_to_do_stands_in_the_text() -> None:
    text = letter().text()
    assert "What to do: fleet device explain DEVICE" in text
    assert "Seen it: fleet notice ack 7" in text
