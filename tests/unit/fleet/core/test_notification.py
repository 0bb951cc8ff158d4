"""What is told of a subject: over every state and sight, and over whatever happens to many of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from fleet.core.matters import MATTERS, Course, Matter, Severity, event_type, matters_of
from fleet.core.notification import (
    CALM,
    TRANSITIONS,
    Change,
    Fact,
    Known,
    Phase,
    Sight,
    happenings,
    line,
    sight,
    steps,
)
from fleet.core.notification_rule import Receiver, Rule

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
REFUSED = Fact(matter=Matter.RENEWAL_REFUSED, subject="d1", text="x", at=NOW)
DAYS = timedelta(days=1)


def rule(*matters: Matter, **settings: object) -> Rule:
    return Rule(
        name="all",
        matters=frozenset(matters or Matter),
        to=(Receiver(channel="log"),),
        **settings,  # type: ignore[arg-type]  # a test names fields
    )


def fact(subject: str, *, days: float | None = None, count: int = 1, at: datetime = NOW) -> Fact:
    return Fact(
        matter=Matter.DOCTOR if days is None else Matter.CA_ENDS,
        subject=subject,
        text="x",
        at=at,
        ends=None if days is None else NOW + days * DAYS,
        count=count,
    )


@pytest.mark.parametrize(("phase", "shown"), list(product(Phase, Sight)))
def test_every_sight_in_every_phase_leads_somewhere_and_tells_what_it_changes(
    phase: Phase, shown: Sight
) -> None:
    after, change = TRANSITIONS[phase, shown]

    is_there = shown in {Sight.RISES, Sight.HOLDS}
    if shown is Sight.RISES:
        assert (after, change is not None) == (Phase.RAISED, True)
    elif phase is Phase.RAISED and shown is Sight.GONE:
        assert (after, change) == (Phase.CLEAR, Change.CLEARS)
    else:
        assert change is None
        assert after is (phase if is_there or phase is Phase.CLEAR else Phase.CLEAR)


@pytest.mark.parametrize(
    ("level", "known", "shown"),
    [
        (0, None, Sight.GONE),
        (1, None, Sight.RISES),
        (0, 2, Sight.GONE),
        (1, 2, Sight.HOLDS),
        (2, 2, Sight.HOLDS),
        (3, 2, Sight.RISES),
    ],
)
def test_a_sight_is_the_level_against_what_was_told(level: int, known: int | None, shown: Sight) -> None:
    told = None if known is None else Known(subject="x", level=known, seen_at=NOW)
    assert sight(told, level) is shown


LEVELS = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 4), max_size=3), min_size=1, max_size=12
)


@given(looks=LEVELS)
def test_each_subject_arises_gets_worse_and_is_over_and_nothing_of_it_is_told_twice(
    looks: list[dict[str, int]],
) -> None:
    known: dict[str, Known] = {}
    heard: dict[str, list[tuple[Change, int]]] = {}
    for look in looks:
        facts = [fact(name, count=level) for name, level in look.items()]
        for step in steps(rule(), known, facts, now=NOW):
            if step.known is None:
                del known[step.subject]
            else:
                known[step.subject] = step.known
            if step.change is not None:
                level = 0 if step.known is None else step.known.level
                heard.setdefault(step.subject, []).append((step.change, level))
        assert not steps(rule(), known, facts, now=NOW), "looking again tells nothing"
        assert set(known) == {name for name, level in look.items() if level > 0}

    for told in heard.values():
        before: tuple[Change, int] = (Change.CLEARS, 0)
        for change, level in told:
            assert (change is Change.ARISES) is (before[0] is Change.CLEARS)
            assert change is Change.CLEARS or level > before[1]
            before = (change, level)


@given(
    thresholds=st.sets(st.integers(0, 400), min_size=1, max_size=6),
    days=st.lists(st.integers(-40, 2000).map(lambda quarters: quarters / 4), min_size=1, max_size=8),
)
def test_what_ends_is_told_once_for_each_threshold_that_it_passes(
    thresholds: set[int], days: list[float]
) -> None:
    longest_first = sorted(thresholds, reverse=True)
    some = rule(thresholds=tuple(each * DAYS for each in longest_first))
    known: dict[str, Known] = {}
    told = 0
    for left in sorted(days, reverse=True):
        for step in steps(some, known, [fact("ca", days=left)], now=NOW):
            assert step.known is not None
            known["ca"] = step.known
            told += 1
    passed = {sum(left <= each for each in thresholds) for left in days} - {0}
    assert told == len(passed)


def test_the_last_threshold_is_critical_unless_the_rule_says_otherwise() -> None:
    (step,) = steps(rule(), {}, [fact("ca", days=0.5)], now=NOW)
    assert step.severity is Severity.CRITICAL
    (step,) = steps(rule(), {}, [fact("ca", days=20)], now=NOW)
    assert step.severity is Severity.WARNING
    (step,) = steps(rule(severity=Severity.INFO), {}, [fact("ca", days=0.5)], now=NOW)
    assert step.severity is Severity.INFO


@given(gaps=st.lists(st.integers(0, 60), min_size=1, max_size=30))
def test_what_happens_again_and_again_is_told_anew_only_after_a_calm_day(gaps: list[int]) -> None:
    known: dict[str, Known] = {}
    at, last, expected, told = NOW, None, 0, 0
    for gap in gaps:
        at += timedelta(hours=gap)
        expected += last is None or at - last >= CALM
        last = at
        for step in happenings(rule(), known, [replace(REFUSED, at=at)], now=at):
            assert step.known is not None
            known["d1"] = step.known
            told += step.change is not None
    assert told == expected


def test_what_happened_once_lapses_without_an_all_clear() -> None:
    known = {"d1": Known(subject="d1", level=1, seen_at=NOW - CALM)}
    (step,) = happenings(rule(), known, [], now=NOW)
    assert (step.known, step.change) == (None, None)


def test_a_rule_for_a_domain_is_not_about_another_or_the_fleet_as_a_whole() -> None:
    some = rule(domains=frozenset({"prod"}))
    found = [
        Fact(
            matter=Matter.DEVICE_ALARM,
            subject=domain,
            text="x",
            at=NOW,
            domain=domain,
            device=Identity(domain=domain, device_id="d1") if domain else None,
        )
        for domain in ("prod", "lab", "")
    ]
    assert [step.subject for step in steps(some, {}, found, now=NOW)] == ["prod"]


@given(text=st.text())
def test_what_comes_from_outside_becomes_one_line_of_printable_signs(text: str) -> None:
    shown = line(text)
    assert shown.isprintable()
    assert len(shown) <= 300


def test_every_matter_is_described_and_found_by_its_name() -> None:
    assert set(MATTERS) == set(Matter)
    assert matters_of("*") == frozenset(Matter)
    assert matters_of("expiry.*") == {each for each in Matter if MATTERS[each].course is Course.ENDING}
    assert all(matters_of(each.value) == {each} for each in Matter)
    assert not matters_of("expiry")
    assert not matters_of("nothing.*")
    assert {event_type(each) for each in Matter} == {f"fleet.v1.{each.value}" for each in Matter}
