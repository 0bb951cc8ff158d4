"""What operators may say of devices, and what it changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.marking import Changes, Marking, Marks, changes_of, checked, parse_address, parse_word
from fleet.errors import BadInputError

words = st.sampled_from(["a", "b", "c", "d"])
sets = st.frozensets(words, max_size=4).map(lambda found: tuple(sorted(found)))
marks = st.builds(
    Marks,
    model=st.sampled_from(["", "TX"]),
    owner=st.sampled_from(["", "acme"]),
    tags=sets,
    groups=sets,
    attributes=st.dictionaries(words, words).map(lambda found: tuple(sorted(found.items()))),
)
changes = st.builds(Changes, put=sets, take=sets)
markings = st.builds(
    Marking,
    model=st.none() | st.sampled_from(["", "TX", "TY"]),
    owner=st.none() | st.sampled_from(["", "acme", "beta"]),
    attributes=st.dictionaries(words, st.sampled_from(["", "x"])).map(lambda found: tuple(found.items())),
    tags=changes,
    groups=changes,
)


@given(before=marks, marking=markings)
def test_what_is_said_twice_changes_nothing_the_second_time(before: Marks, marking: Marking) -> None:
    once = marking.of(before)
    assert marking.of(once) == once
    assert changes_of(once, marking.of(once)) == ()


@given(before=marks, marking=markings)
def test_what_changed_is_told_and_nothing_else(before: Marks, marking: Marking) -> None:
    after = marking.of(before)
    told = dict(changes_of(before, after))
    assert bool(told) is (after != before)
    assert ("model" in told) is (after.model != before.model)
    assert told.get("tags", " ".join(before.tags)) == " ".join(after.tags)
    for name, value in marking.attributes:
        assert dict(after.attributes).get(name, "") == value


@given(before=marks)
def test_who_says_nothing_changes_nothing(before: Marks) -> None:
    assert Marking().says_nothing
    assert Marking().of(before) == before


@pytest.mark.parametrize(
    "marking",
    [
        Marking(owner="a b"),
        Marking(model="x" * 65),
        Marking(model="a\nb"),
        Marking(attributes=(("", "x"),)),
        Marking(attributes=(("site", "a\x00"),)),
        Marking(attributes=(("site", "x" * 257),)),
        Marking(tags=Changes(put=("",))),
        Marking(tags=Changes(put=("-a",))),
        Marking(groups=Changes(take=("a/b",))),
        Marking(tags=Changes(put=("a",), take=("a",))),
        Marking(tags=Changes(put=tuple(f"t{number}" for number in range(33)))),
    ],
)
def test_what_can_stand_in_no_record_is_refused(marking: Marking) -> None:
    with pytest.raises(BadInputError):
        checked(marking)


@given(st.text())
def test_a_word_is_printable_and_holds_no_space(text: str) -> None:
    try:
        word = parse_word(text, what="tag")
    except BadInputError:
        return
    assert word == text
    assert word.isascii()
    assert not set(word) & set(" =<>()\"'*")


@pytest.mark.parametrize("text", ["fleet@example.com", "a.b+c@x.example", "o'neil@x.y"])
def test_a_mail_address_is_taken(text: str) -> None:
    assert parse_address(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "nobody", "@x.y", "a@", "a b@x.y", "a@x.y\nBcc: b@x.y", "a@x..y", "<a@x.y>", "a@x.y,b@x.y", "a@-x"],
)
def test_what_is_no_mail_address_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="is no mail address"):
        parse_address(text)
