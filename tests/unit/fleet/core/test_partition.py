"""The parts of a revocation list: each certificate has one, for ever, however many there are later."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.partition import PARTITIONS, SERVED, is_served, partition_of, shard_of, shards_of

serials = st.integers(0x40 << 120, (0x80 << 120) - 1).map(lambda number: f"{number:032x}")
counts = st.integers(0, 16).map(lambda depth: 1 << depth)


@given(serials, counts)
def test_a_certificate_is_in_the_part_that_it_names(serial: str, partitions: int) -> None:
    partition = partition_of(serial, partitions=partitions)
    first, last = shards_of(partition)
    assert partitions <= partition < 2 * partitions
    assert first <= shard_of(serial) <= last


@given(serials, counts, counts)
def test_with_more_parts_later_the_part_of_an_older_leaf_still_speaks_of_it(
    serial: str, before: int, later: int
) -> None:
    older, newer = sorted((before, later))
    first, last = shards_of(partition_of(serial, partitions=older))
    inner_first, inner_last = shards_of(partition_of(serial, partitions=newer))
    assert first <= inner_first <= inner_last <= last


@pytest.mark.parametrize("partitions", [1, 2, PARTITIONS, 4096])
def test_the_parts_are_everything_and_none_is_told_twice(partitions: int) -> None:
    bounds = [shards_of(partition) for partition in range(partitions, 2 * partitions)]
    assert (bounds[0][0], bounds[-1][1]) == ("0000", "ffff")
    assert all(int(before[1], 16) + 1 == int(after[0], 16) for before, after in pairwise(bounds))


@pytest.mark.parametrize("partition", [0, -1, 1 << 17, 1 << 40])
def test_what_no_leaf_can_name_is_no_part(partition: int) -> None:
    with pytest.raises(ValueError, match="no partition"):
        shards_of(partition)


def test_the_parts_that_new_leaves_name_are_served_and_no_others() -> None:
    assert PARTITIONS in SERVED
    assert all(count & (count - 1) == 0 for count in SERVED)
    assert [number for number in range(4 * PARTITIONS) if is_served(number)] == list(
        range(PARTITIONS, 2 * PARTITIONS)
    )


def test_a_short_serial_has_a_part_too() -> None:
    assert shard_of("7") == "0007"
