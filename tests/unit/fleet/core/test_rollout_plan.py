"""Who is in a percentage or a wave, when a rollout would be over, and what speaks against a plan."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from fleet.core.rollout import DeviceEvent, DeviceState, Gate, RolloutKind, Tally
from fleet.core.rollout_device import Aim, DeviceFacts, hear, out_of_patience
from fleet.core.rollout_faults import Findings, faults, faults_at_start
from fleet.core.rollout_plan import (
    Count,
    Percent,
    Plan,
    Rest,
    Wave,
    course_of,
    is_drawn,
    place_of,
    wave_sizes,
)
from fleet.core.station_rules import Shift

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
WAVES = (Wave(name="pilot", size=Count(devices=10)), Wave(name="wave 2", size=Rest()))
PLAN = Plan(name="spring", kind=RolloutKind.REKEY, select="all", waves=WAVES, rate_per_minute=10)
FOUND = Findings(now=NOON, selected=100, says_all=True, in_service=100, waves=(10, 90), most_per_minute=6000)

names = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True)
sizes = st.one_of(
    st.builds(Count, devices=st.integers(0, 50)), st.builds(Percent, percent=st.floats(0.1, 100))
)


def place(name: str, salt: str = "") -> str:
    return place_of(Identity(domain="prod", device_id=name), salt)


@given(names, st.floats(0, 100), st.floats(0, 100))
def test_a_larger_percentage_holds_the_smaller_one(name: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert is_drawn(place(name), larger) or not is_drawn(place(name), smaller)


def test_a_percentage_is_near_what_it_says_the_same_each_time_and_another_by_another_salt() -> None:
    fleet = [f"d{number}" for number in range(5000)]
    tenth = {name for name in fleet if is_drawn(place(name), 10)}
    assert 420 < len(tenth) < 580
    assert tenth == {name for name in fleet if is_drawn(place(name), 10)}
    assert tenth != {name for name in fleet if is_drawn(place(name, "another"), 10)}
    # What a plan drew once it has to draw with every later version.
    assert place("d1") == "74962c8ebf25ba11"


@given(st.lists(sizes, max_size=5), st.integers(0, 200), st.integers(0, 200))
def test_waves_take_no_more_than_there_is_and_the_rest_takes_all(
    found: list[Count | Percent], whole: int, gone: int
) -> None:
    left = max(whole - gone, 0)
    waves = [Wave(name="", size=size) for size in found]
    assert sum(wave_sizes(waves, whole=whole, left=left)) <= left
    assert sum(wave_sizes([*waves, Wave(name="", size=Rest())], whole=whole, left=left)) == left


def test_a_course_counts_pace_windows_patience_and_soak() -> None:
    gate = Gate(patience=timedelta(hours=1), soak=timedelta(hours=2))
    waves = (Tally(waiting=10), Tally(waiting=600))
    course = course_of(replace(PLAN, gate=gate), waves, since=NOON)
    assert course is not None
    telling = timedelta(minutes=1 + 60)
    assert course.soonest == NOON + telling + timedelta(hours=4)
    assert course.latest == NOON + telling + timedelta(hours=6)
    night = replace(PLAN, gate=gate, windows=(Shift.parse("mon-sun 02:00-02:30 UTC"),))
    slow = course_of(night, waves, since=NOON)
    assert slow is not None
    # One minute in the first night, then half an hour in each of two.
    assert slow.soonest == datetime(2030, 6, 4, 2, 30, tzinfo=UTC) + timedelta(hours=2)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 600))
def test_a_course_never_ends_before_it_could(pilot: int, rest: int, rate: int) -> None:
    plan = replace(PLAN, rate_per_minute=rate)
    course = course_of(plan, (Tally(waiting=pilot), Tally(waiting=rest)), since=NOON)
    assert course is not None
    assert NOON <= course.soonest <= course.latest
    assert NOON + timedelta(minutes=(pilot + rest) / rate) <= course.latest


def test_a_plan_that_can_be_met_has_no_fault() -> None:
    assert faults(PLAN, FOUND) == ()


@pytest.mark.parametrize(
    ("plan", "found", "told"),
    [
        (PLAN, replace(FOUND, selected=0, left_out=(("retired", 3),)), "that could take part: 3 retired"),
        (PLAN, replace(FOUND, says_all=False), "selects every device in service (100)"),
        (PLAN, replace(FOUND, room=99), "has room for 99 more certificates"),
        (PLAN, replace(FOUND, target_fault="prod has no profile x"), "prod has no profile x"),
        (PLAN, replace(FOUND, taken=(("autumn", 4),)), "4 of its devices are in the rollout autumn"),
        (PLAN, replace(FOUND, overlaps=((1, 5),)), "the wave 2 overlaps waves before it"),
        (PLAN, replace(FOUND, ending=7), "certificates of 7 of its devices end before"),
        (
            replace(PLAN, windows=(Shift.parse("sun 02:00-02:05 UTC"),)),
            replace(FOUND, waves=(10, 9000)),
            "its windows are too short for 100 devices at 10 a minute",
        ),
    ],
)
def test_what_speaks_against_a_plan_is_said_with_what_would_mend_it(
    plan: Plan, found: Findings, told: str
) -> None:
    assert any(told in fault.what for fault in faults(plan, found))


def test_at_its_start_a_plan_is_asked_again_what_may_have_changed() -> None:
    late = replace(PLAN, ends=NOON + timedelta(hours=1))
    (fault,) = faults_at_start(late, FOUND)
    assert "is to end by 2030-06-01T13:00Z" in fault.what
    assert faults_at_start(PLAN, replace(FOUND, says_all=False)) == ()


TOLD = DeviceFacts(state=DeviceState.TOLD, told_at=NOON, baseline="40" * 16, serial="40" * 16, is_active=True)
NEW = replace(TOLD, serial="41" * 16, profile="device", issuer="ab")


@pytest.mark.parametrize(
    ("aim", "facts", "event"),
    [
        (Aim(kind=RolloutKind.REKEY), TOLD, None),
        (Aim(kind=RolloutKind.REKEY), NEW, DeviceEvent.ARRIVED),
        (Aim(kind=RolloutKind.REKEY), replace(NEW, is_active=False), None),
        (Aim(kind=RolloutKind.PROFILE, target="short"), NEW, DeviceEvent.TROUBLE),
        (Aim(kind=RolloutKind.PROFILE, target="device"), NEW, DeviceEvent.ARRIVED),
        (Aim(kind=RolloutKind.CA, target="ab"), NEW, DeviceEvent.ARRIVED),
        (Aim(kind=RolloutKind.CA, target="cd"), NEW, DeviceEvent.TROUBLE),
        (Aim(kind=RolloutKind.TRUST, target="2"), replace(NEW, held=1), None),
        (Aim(kind=RolloutKind.TRUST, target="2"), replace(TOLD, held=2), DeviceEvent.ARRIVED),
        (Aim(kind=RolloutKind.REKEY), replace(TOLD, trouble="bad-key"), DeviceEvent.TROUBLE),
        (Aim(kind=RolloutKind.REKEY), replace(NEW, trouble="bad-key"), DeviceEvent.ARRIVED),
        (Aim(kind=RolloutKind.REKEY), replace(TOLD, out_of_service="retired"), DeviceEvent.GONE),
    ],
)
def test_what_is_known_of_a_device_says_where_it_stands(
    aim: Aim, facts: DeviceFacts, event: DeviceEvent | None
) -> None:
    heard = hear(aim, facts)
    assert (None if heard is None else heard.event) is event


@pytest.mark.parametrize(
    ("facts", "event"),
    [
        (TOLD, DeviceEvent.SILENT),
        (replace(TOLD, is_online=True), DeviceEvent.TROUBLE),
        (replace(TOLD, seen_at=NOON - timedelta(seconds=1)), DeviceEvent.SILENT),
        (replace(TOLD, seen_at=NOON), DeviceEvent.TROUBLE),
        (replace(TOLD, has_asked=True), DeviceEvent.TROUBLE),
        (NEW, DeviceEvent.ARRIVED),
    ],
)
def test_who_was_there_when_patience_ends_has_failed_and_who_was_not_was_away(
    facts: DeviceFacts, event: DeviceEvent
) -> None:
    assert out_of_patience(Aim(kind=RolloutKind.REKEY), facts).event is event
