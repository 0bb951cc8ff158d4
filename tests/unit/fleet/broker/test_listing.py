"""The allowlist as text: heads that follow each other, and entries that a broker can admit."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.broker.listing import Head, change_text, lines_of, whole_list
from fleet.errors import SequenceGapError
from fleet.model import Allowlist, AllowlistChange, AllowlistEntry, Purpose

GENERATION = "0011223344556677"


def entry(number: int, *, name: str = "prod:d1", purpose: Purpose = Purpose.DEVICE) -> AllowlistEntry:
    return AllowlistEntry(
        issuer="ab" * 20,
        serial=f"{number:032x}",
        fingerprint=f"{number:064x}",
        name=name,
        purpose=purpose,
        not_after=datetime(2030, 1, 1, tzinfo=UTC),
    )


def test_a_whole_list_ends_in_its_digest() -> None:
    head, text = whole_list(Allowlist(sequence=7, entries=(entry(1),)), generation=GENERATION)

    lines = text.decode().splitlines()
    assert lines[0] == f"fleet-allowlist 2 {GENERATION} 7 1"
    assert lines[1].startswith(f"{'ab' * 20} {1:032x} ")
    assert lines[2].startswith("end ")
    assert head.count == 1


@given(st.sets(st.integers(min_value=1, max_value=50)), st.data())
def test_a_head_after_changes_is_that_of_the_whole(numbers: set[int], data: st.DataObject) -> None:
    removed = data.draw(st.sets(st.sampled_from(sorted(numbers)))) if numbers else set()
    head, _ = whole_list(Allowlist(sequence=0), generation=GENERATION)

    head = head.after(AllowlistChange(sequence=1, added=tuple(map(entry, numbers))))
    head = head.after(AllowlistChange(sequence=2, removed=tuple(map(entry, removed))))

    left = tuple(map(entry, numbers - removed))
    assert head == whole_list(Allowlist(sequence=2, entries=left), generation=GENERATION)[0]


@pytest.mark.parametrize("sequence", [0, 4, 6])
def test_a_change_must_be_the_next_one(sequence: int) -> None:
    with pytest.raises(SequenceGapError):
        Head(generation=GENERATION, sequence=4).after(AllowlistChange(sequence=sequence))


@pytest.mark.parametrize(
    "name", ["", "a b", "prod:d1\n", "prod:d1 x", "a/b", "+", "#", "d" * 129, "prod:\u0434", "a;b"]
)
def test_a_name_that_a_broker_cannot_take_admits_nobody(name: str) -> None:
    assert lines_of([entry(1, name=name), entry(2)]) == lines_of([entry(2)])


@pytest.mark.parametrize("purpose", [Purpose.OPERATOR, Purpose.STATION, Purpose.SERVER])
def test_certificates_that_connect_to_no_broker_are_left_out(purpose: Purpose) -> None:
    assert lines_of([entry(1, purpose=purpose)]) == []


@pytest.mark.parametrize(
    "change", [{"issuer": "ABCD"}, {"serial": "1"}, {"fingerprint": "x" * 64}, {"issuer": "abc"}]
)
def test_an_entry_with_a_malformed_member_is_left_out(change: dict[str, str]) -> None:
    assert lines_of([replace(entry(1), **change)]) == []


def test_a_change_names_what_is_added_before_what_is_removed() -> None:
    text = change_text(
        AllowlistChange(sequence=3, added=(entry(1),), removed=(entry(2),)), generation=GENERATION
    )

    lines = text.decode().splitlines()
    assert lines[0] == f"change {GENERATION} 3 1 1"
    assert [line.split()[1] for line in lines[1:3]] == [f"{1:032x}", f"{2:032x}"]
