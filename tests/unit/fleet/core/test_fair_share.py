"""What is short is divided so that a flood in one place takes nothing from the others."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.fair_share import fair_shares


def test_whoever_wants_little_gets_it_all() -> None:
    assert fair_shares([50_000, 1, 20_000, 0], most=10_001) == (5_000, 1, 5_000, 0)


def test_nobody_gets_more_than_is_wanted() -> None:
    assert fair_shares([3, 4], most=10) == (3, 4)


@given(st.lists(st.integers(0, 10**6)), st.integers(0, 10**6))
def test_all_of_it_is_handed_out_and_never_more(wanted: list[int], most: int) -> None:
    shares = fair_shares(wanted, most=most)
    assert all(share <= want for share, want in zip(shares, wanted, strict=True))
    assert sum(shares) == min(sum(wanted), most)
