"""Any M of N shares bring a key back; fewer, mixed or miswritten ones say so, without a word of theirs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ca.shares import (
    KEY_BYTES,
    Quorum,
    combine_shares,
    parse_quorum,
    parse_share,
    share_set_of,
    split_key,
)
from fleet.errors import BadInputError, UsageError

KEY = bytes(range(KEY_BYTES))
SPLIT = split_key(KEY, Quorum(needed=2, count=3))


@pytest.mark.parametrize("chosen", list(itertools.combinations(range(3), 2)))
def test_any_two_of_three_bring_the_key_back(chosen: tuple[int, ...]) -> None:
    assert combine_shares([SPLIT.shares[number] for number in chosen]) == KEY


def test_more_than_enough_bring_it_back_too_and_a_share_given_twice_counts_once() -> None:
    assert combine_shares(SPLIT.shares) == KEY
    with pytest.raises(BadInputError, match="1 of the 2 shares"):
        combine_shares([SPLIT.shares[0], SPLIT.shares[0]])


def test_shares_of_two_backups_are_told_apart() -> None:
    other = split_key(KEY, Quorum(needed=2, count=3))
    assert {share_set_of(share) for share in SPLIT.shares} == {SPLIT.share_set}
    with pytest.raises(BadInputError, match="not of one backup"):
        combine_shares([SPLIT.shares[0], other.shares[1]])


def test_a_share_is_read_as_a_person_writes_it() -> None:
    words = SPLIT.shares[0].reveal().split()
    written = "# share 1 of 3\n\n" + " ".join(words[:20]).upper() + "\n   " + "  ".join(words[20:]) + "\n"
    assert parse_share(written) == SPLIT.shares[0]


def test_a_wrong_word_is_found_and_no_word_is_told() -> None:
    words = SPLIT.shares[0].reveal().split()
    wrong = "academic" if words[5] != "academic" else "acid"
    with pytest.raises(BadInputError) as told:
        parse_share(" ".join([*words[:5], wrong, *words[6:]]))
    assert not set(words) & set(str(told.value).split())
    assert told.value.__cause__ is None


@given(st.text(max_size=60))
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_share(text)


@pytest.mark.parametrize("text", ["2of3", "1of1", "16of16", "3of5"])
def test_a_quorum_is_said_in_one_word(text: str) -> None:
    assert str(parse_quorum(text)) == text


@pytest.mark.parametrize("text", ["", "3of2", "1of2", "0of0", "2of17", "2 of 3", "-1of3", "２of３"])
def test_a_quorum_that_keeps_no_secret_or_cannot_be_met_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_quorum(text)


def test_a_share_does_not_show_itself() -> None:
    assert SPLIT.shares[0].reveal() not in repr(SPLIT)
