"""Whoever was made for the purpose is no other person, however long the line of those who made him."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.second_person import OWNER, Person, why_same_hand

NOON = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
NAMES = ["ada", "bob", "eve", "joe", "mia"]


def people(*made: tuple[str, str]) -> dict[str, Person]:
    return {name: Person(added_at=NOON, added_by=by) for name, by in made}


def test_who_was_there_before_and_by_another_hand_counts() -> None:
    known = people(("ada", OWNER), ("bob", OWNER), ("eve", "bob"), ("old", ""))
    for name in ("bob", "eve", "old", OWNER):
        assert why_same_hand(name, known, of=frozenset({"ada"}), since=NOON) == ""


def test_who_came_later_or_by_his_hand_does_not_count() -> None:
    known = people(("ada", OWNER), ("puppet", "ada"), ("grandchild", "puppet"))
    assert why_same_hand("puppet", known, of=frozenset({"ada"}), since=NOON) == "puppet was added by ada"
    assert why_same_hand("grandchild", known, of=frozenset({"ada"}), since=NOON)
    assert why_same_hand("ada", known, of=frozenset(), since=NOON - timedelta(seconds=1))
    assert why_same_hand("nobody", known, of=frozenset(), since=NOON)


def test_what_the_owner_of_the_home_made_stands_for_itself() -> None:
    known = people(("ada", OWNER), ("bob", OWNER))
    assert why_same_hand("bob", known, of=frozenset({OWNER}), since=NOON) == ""


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*NAMES, OWNER, ""]), max_size=5))
def test_every_record_is_judged_even_one_that_goes_in_a_circle(made: dict[str, str]) -> None:
    known = people(*made.items())
    for name in made:
        why_same_hand(name, known, of=frozenset(NAMES) - {name}, since=NOON)
