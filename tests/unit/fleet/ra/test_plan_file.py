"""Plans of rollouts: what is written is read, faults are told with their line, no text breaks the reader."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cli.rollout_flags import toml_of
from fleet.core.rollout import Gate, RolloutKind
from fleet.core.rollout_plan import Count, Matching, OnHalt, Percent, Rest
from fleet.errors import BadInputError
from fleet.ra.campaigns.plan_file import LONGEST_PLAN, read_plan

WHOLE = """
[rollout]
name = "new-keys"
kind = "configuration"
select = "tag=outdoor and expires<60d"
percentage = 12.5
salt = "second"
waves = ["group=pilot", "50", "12.5%", "rest"]
rate_per_minute = 600
windows = ["mon-fri 22:00-04:00 Europe/Berlin"]
ends = "2027-03-31T18:00:00+02:00"
on_halt = "roll-back"
note = "keys are old"
[gate]
updated = 0.9
failed = 0.02
least = 3
patience = "30m"
soak = "1d"
[configuration]
report_seconds = 3600
"""
LEAST = '[rollout]\nname = "x"\nselect = "all"\nwaves = ["1", "rest"]\n'


def test_all_that_a_plan_can_say_is_read() -> None:
    plan = read_plan(WHOLE)
    assert (plan.name, plan.kind, plan.percentage, plan.salt) == (
        "new-keys",
        RolloutKind.CONFIGURATION,
        12.5,
        "second",
    )
    assert [wave.size for wave in plan.waves] == [
        Matching(query="group=pilot"),
        Count(devices=50),
        Percent(percent=12.5),
        Rest(),
    ]
    assert [wave.name for wave in plan.waves] == ["pilot", "wave 2", "wave 3", "wave 4"]
    assert plan.gate == Gate(
        updated=0.9, failed=0.02, least=3, patience=timedelta(minutes=30), soak=timedelta(days=1)
    )
    assert (plan.ends, plan.on_halt) == (datetime(2027, 3, 31, 16, tzinfo=UTC), OnHalt.ROLL_BACK)
    assert [str(window) for window in plan.windows] == ["mon,tue,wed,thu,fri 22:00-04:00 Europe/Berlin"]
    assert plan.settings.members() == {"report_seconds": 3600}


def test_a_plan_needs_no_more_than_a_name_a_selection_and_waves() -> None:
    plan = read_plan(LEAST)
    assert (plan.kind, plan.gate, plan.windows) == (RolloutKind.REKEY, Gate(), ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LEAST.replace('"x"', '"X y"'), "plan:2: name"),
        (LEAST.replace('"all"', '"colour=red"'), "plan:3: select: "),
        (LEAST.replace('"all"', '""'), "plan:3: select: the query is empty"),
        (LEAST.replace('["1", "rest"]', '["rest", "1"]'), "plan:4: nothing comes after the rest"),
        (LEAST.replace('["1", "rest"]', '["1"]'), "plan:4: a rollout has a pilot"),
        (LEAST.replace('"1"', '"200 devices"'), "plan:4: waves: "),
        (LEAST + "wave = 1\n", "plan:5: unknown key 'wave'"),
        (LEAST + "rate_per_minute = 0\n", "plan:5: rate_per_minute must be an integer"),
        (LEAST + "percentage = 0\n", "plan:5: percentage must be a number"),
        (LEAST + 'windows = ["22:00-04:00"]\n', "plan:5: windows: "),
        (LEAST + 'windows = ["mon 22:00-04:00 Europe/Atlantis"]\n', "plan:5: windows: "),
        (LEAST + 'ends = "2027-03-31T18:00:00"\n', "plan:5: ends is a time with its zone"),
        (LEAST + 'ends = "0001-01-01T00:00:00+14:00"\n', "plan:5: ends is a time with its zone"),
        (LEAST + 'ends = "9999-12-31T23:00:00-14:00"\n', "plan:5: ends is a time with its zone"),
        (LEAST + 'kind = "profile"\n', "a rollout of kind profile names its profile"),
        (LEAST + 'kind = "trust"\nrealm = "prod/x"\n', "a rollout of kind trust names its realm"),
        (LEAST + 'kind = "configuration"\n', "says which settings"),
        (LEAST + '[gate]\npatience = "0s"\n', "plan:6: patience is a length of time"),
        (LEAST + '[gate]\nsoak = "366d"\n', "plan:6: soak is a length of time, at most 365d"),
        (LEAST + '[gate]\nsoak = "soon"\n', "plan:6: soak is a length of time"),
        (LEAST + "[gate]\nupdated = 1.5\n", "plan:6: updated must be a number"),
        (LEAST + "[gates]\n", "unknown key 'gates'"),
        (LEAST + "x" * LONGEST_PLAN, "is larger than"),
        ("[rollout", "plan: "),
        ("a=" + "[" * 16_000, "plan: lists within lists, too deep"),
    ],
)
def test_what_is_not_right_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_plan(text)
    assert told in str(caught.value)
    assert caught.value.hint


@given(st.text(max_size=200) | st.lists(st.sampled_from(WHOLE.split()), max_size=30).map("\n".join))
def test_any_text_is_a_plan_or_a_fault_of_the_input(text: str) -> None:
    with suppress(BadInputError):
        read_plan(text)


@given(st.text(max_size=40), st.floats(0.001, 100), st.sampled_from(["1", "20%", "tag=x"]))
def test_flags_say_what_a_file_would(note: str, percentage: float, pilot: str) -> None:
    flags = {
        **dict.fromkeys(("kind", "profile", "ca", "realm", "rate_per_minute", "ends", "on_halt")),
        **dict.fromkeys(("updated", "failed", "least", "patience", "soak")),
        "name": "x",
        "select": "all",
        "percentage": percentage,
        "waves": (pilot, "rest"),
        "windows": (),
        "note": note or None,
    }
    if not note.isprintable():
        with pytest.raises(BadInputError):
            read_plan(toml_of(flags))
        return
    plan = read_plan(toml_of(flags))
    assert (plan.note, plan.percentage, str(plan.waves[0].size)) == (note, percentage, pilot)
