"""Texts that people read to each other: whatever they take for one another is the same."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.crockford import ALPHABET, plain, spelled


def test_octets_are_spelled_in_groups_of_four() -> None:
    assert spelled(bytes(8), signs=12) == "0000-0000-0000"
    assert spelled(b"\xff" * 5, signs=8) == "ZZZZ-ZZZZ"


@given(st.binary(min_size=5, max_size=40), st.integers(1, 8))
def test_what_is_spelled_is_read_again_however_it_is_typed(octets: bytes, signs: int) -> None:
    text = spelled(octets, signs=signs)
    typed = text.lower().replace("-", " ").replace("1", "l").replace("0", "o")
    assert plain(typed) == text.replace("-", "")
    assert set(plain(typed)) <= set(ALPHABET)


def test_a_group_is_no_longer_than_four_whatever_is_left() -> None:
    assert spelled(b"\x08\x42\x10\x84\x21", signs=6) == "1111-11"
