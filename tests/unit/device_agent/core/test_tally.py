"""Counters as text."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.rate import a_day
from device_agent.core.tally import MAX_TALLY_BYTES, Tally
from device_agent.wire.problems import MalformedMessageError

BEGUN = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
COUNTS = st.integers(0, 1 << 50)


@given(
    counts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    failures=st.dictionaries(st.from_regex("[a-z-]{1,32}", fullmatch=True), COUNTS, max_size=48),
)
def test_counters_read_back_as_they_were_written(
    counts: tuple[int, int, int, int, int], failures: dict[str, int]
) -> None:
    renewals, signatures, connections, writes, written = counts
    tally = Tally(
        since=BEGUN,
        renewals=renewals,
        signatures=signatures,
        connections=connections,
        writes=writes,
        written_bytes=written,
        failures=failures,
    )
    assert Tally.parse(tally.encode()) == tally
    assert len(tally.encode()) <= MAX_TALLY_BYTES
    assert tally.totals()["failures"] == sum(failures.values())


@given(content=st.binary(max_size=200), at=st.integers(0, 200), octet=st.integers(1, 255))
def test_bytes_are_counters_or_malformed(content: bytes, at: int, octet: int) -> None:
    damaged = bytearray(Tally(since=BEGUN).encode())
    damaged[at % len(damaged)] ^= octet
    for body in (content, bytes(damaged)):
        with contextlib.suppress(MalformedMessageError):
            Tally.parse(body)


def test_problems_that_nobody_foresaw_are_counted_together() -> None:
    tally = Tally(since=BEGUN)
    for number in range(100):
        tally = replace(tally, failures=tally.failed(f"word-{number}"))
    assert len(tally.failures) == 49
    assert tally.failures["other"] == 52
    assert Tally.parse(tally.encode()) == tally


def test_so_many_a_day_may_come_at_once_and_then_one_by_one() -> None:
    rate = a_day(24)
    assert [rate.allow(0) for _ in range(25)] == [True] * 24 + [False]
    assert not rate.has_one(3599)
    assert rate.has_one(3601)
    assert rate.allow(3601)
    assert sum(rate.allow(3601.0 + hour * 3600) for hour in range(1, 49)) == 48
