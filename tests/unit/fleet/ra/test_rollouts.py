"""Rollouts at a desk: real plans, orders, gates and store; devices by their rows."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.core.rollout import RolloutEvent, RolloutState
from fleet.errors import RefusedError
from fleet.ra.campaigns.conduct import Pace
from fleet.ra.campaigns.orders import Insistence
from fleet.ra.campaigns.plan_file import read_plan
from fleet.ra.campaigns.planning import PlanOrder, Saving, forget_draft, forget_drafts, plan_rollout
from fleet.store.notices import count_wanted
from fleet.store.rollouts import Draft, insert_draft
from tests.desk import NOON, Desk
from tests.rollouts import OPERATOR, Field, plan_text

_State, _Event = RolloutState, RolloutEvent
TEN = tuple(f"d-{number}" for number in range(10))


@pytest.fixture
async def field(desk: Desk) -> Field:
    found = Field(desk=desk, pace=Pace())
    await found.plant(*TEN)
    return found


async def started(field: Field, text: str | None = None) -> None:
    await field.plan(text or plan_text())
    await field.order(_Event.START)
    await field.tick()
    await field.tick(after=timedelta(seconds=5))


async def test_a_pilot_passes_its_gate_then_the_rest_follows_until_it_is_done(field: Field) -> None:
    await started(field)
    pilot = await field.in_state("told")
    assert len(pilot) == 2
    await field.renew(*pilot)
    await field.tick()
    assert await field.in_state("updated") == pilot
    assert await field.in_state("told") == set()
    await field.tick(after=timedelta(minutes=5))
    await field.tick()
    rest = await field.in_state("told")
    assert rest == set(TEN) - pilot
    await field.renew(*rest)
    await field.tick()
    await field.tick(after=timedelta(minutes=6))
    assert (await field.view()).rollout.state is _State.DONE
    assert await field.actions() == [
        "planned",
        "started",
        "wave-begun",
        "wave-settled",
        "gate-passed",
        "wave-begun",
        "wave-settled",
        "gate-passed",
        "done",
    ]


async def test_failures_after_the_pilot_halt_it_by_themselves_and_nobody_more_is_told(field: Field) -> None:
    await started(field, plan_text(waves='["2", "4", "rest"]'))
    await field.renew(*await field.in_state("told"))
    await field.tick()
    await field.tick(after=timedelta(minutes=5))
    await field.tick()
    told = sorted(await field.in_state("told"))
    assert len(told) == 4
    await field.renew(*told[1:])
    await field.trouble(told[0], "key-store")
    await field.tick()
    view = await field.view()
    assert (view.rollout.state, view.rollout.changed_by) == (_State.HALTED, "server")
    assert view.rollout.reason == "wave 2: 1 of 4 failed, and 10.00% may"
    await field.tick(after=timedelta(hours=1))
    assert len(await field.in_state("waiting")) == 4


async def test_a_problem_that_passes_by_itself_is_no_failure(field: Field) -> None:
    await started(field)
    name = sorted(await field.in_state("told"))[0]
    await field.trouble(name, "unreachable")
    await field.tick()
    assert name in await field.in_state("told")


async def test_who_was_there_and_did_not_renew_has_failed_and_who_was_not_is_absent(field: Field) -> None:
    await started(field, plan_text(waves='["4", "rest"]'))
    seen, renewed, *away = sorted(await field.in_state("told"))
    await field.renew(renewed)
    await field.seen(seen)
    await field.tick(after=timedelta(minutes=11))
    assert await field.in_state("failed") == {seen}
    assert await field.in_state("absent") == set(away)
    assert (await field.view()).rollout.state is _State.HALTED


async def test_who_is_connected_all_the_time_was_there(field: Field) -> None:
    await started(field)
    first, second = sorted(await field.in_state("told"))
    await field.desk.context.broker.synchronise()
    field.desk.broker.connect(await field.serial_of(first))
    await field.renew(second)
    await field.tick(after=timedelta(minutes=11))
    assert await field.in_state("failed") == {first}


async def test_devices_in_a_box_hold_up_no_gate_and_count_when_they_come(field: Field) -> None:
    await started(field, plan_text(waves='["4", "rest"]'))
    here, *boxed = sorted(await field.in_state("told"))
    await field.renew(here)
    await field.tick(after=timedelta(minutes=11))
    assert await field.in_state("absent") == set(boxed)
    await field.tick(after=timedelta(minutes=6))
    await field.tick()
    assert (await field.view()).rollout.wave == 2
    await field.renew(boxed[0])
    await field.tick()
    assert boxed[0] in await field.in_state("updated")


async def test_a_pilot_that_is_away_as_a_whole_lets_nobody_through(field: Field) -> None:
    await started(field)
    await field.tick(after=timedelta(minutes=11))
    await field.tick(after=timedelta(days=2))
    view = await field.view()
    assert (view.rollout.wave, view.judgement and view.judgement.rule) == (1, "too few")


async def test_a_pause_tells_nobody_more_and_still_hears_failures(field: Field) -> None:
    await started(field)
    await field.order(_Event.PAUSE)
    first, second = sorted(await field.in_state("told"))
    await field.renew(first)
    await field.tick()
    await field.tick(after=timedelta(minutes=20))
    assert len(await field.in_state("waiting")) == 8
    await field.trouble(second, "bad-key")
    await field.tick()
    assert (await field.view()).rollout.state is _State.HALTED


async def test_a_resume_in_spite_of_failures_counts_later_ones_anew(field: Field) -> None:
    await started(field)
    first, second = sorted(await field.in_state("told"))
    await field.renew(first)
    await field.trouble(second, "bad-key")
    await field.tick()
    with pytest.raises(RefusedError, match="1 device has failed"):
        await field.order(_Event.RESUME)
    resumed = await field.order(_Event.RESUME, insistence=Insistence.GO_ON)
    assert resumed.state is _State.RUNNING
    await field.tick()
    await field.tick(after=timedelta(minutes=5))
    await field.tick()
    assert (await field.view()).rollout.wave == 2


async def test_of_two_operators_at_once_one_is_told_of_the_other(field: Field) -> None:
    await started(field)
    seen = (await field.view()).rollout.version
    await field.order(_Event.HALT, seen=seen, actor="operator:anne")
    with pytest.raises(RefusedError, match="was changed by operator:anne") as caught:
        await field.order(_Event.RESUME, seen=seen, actor="operator:bert")
    assert caught.value.hint == "fleet rollout status spring"


async def test_what_is_ordered_twice_is_done_once(field: Field) -> None:
    await started(field)
    seen = (await field.view()).rollout.version
    first = await field.order(_Event.PAUSE, seen=seen)
    second = await field.order(_Event.PAUSE, seen=seen)
    assert first == second
    assert (await field.actions()).count("paused") == 1


async def test_a_device_that_goes_out_of_service_is_neither_told_nor_counted(field: Field) -> None:
    await field.plan(plan_text())
    view = await field.view()
    (retired,) = await field.first_of_the_pilot(1)
    await field.desk.revoke(retired)
    await field.order(_Event.START)
    await field.tick()
    await field.tick(after=timedelta(seconds=5))
    assert await field.in_state("out") == {retired}
    assert view.total.waiting == 10


async def test_the_pace_is_kept_and_nothing_is_made_up_for_after_a_rest(field: Field) -> None:
    await field.plan(plan_text(more="windows = []", waves='["6", "rest"]').replace("3000", "60"))
    await field.order(_Event.START)
    await field.tick()
    for expected in (1, 2, 3):
        await field.tick(after=timedelta(seconds=1))
        assert len(await field.in_state("told")) == expected


async def test_nobody_is_told_outside_of_the_windows(field: Field) -> None:
    window = "windows = ['mon-sun 14:00-15:00 UTC']"  # the clock says noon
    await started(field, plan_text(more=window))
    assert await field.in_state("told") == set()
    await field.tick(after=timedelta(hours=2))
    await field.tick(after=timedelta(seconds=5))
    assert len(await field.in_state("told")) == 2


async def test_a_server_that_was_stopped_in_a_wave_goes_on_where_it_stood(field: Field) -> None:
    await started(field, plan_text(waves='["6", "rest"]').replace("3000", "60"))
    told = await field.in_state("told")
    field.pace = Pace()  # all that a process remembers
    await field.tick()
    assert await field.in_state("told") == told, "a start saves up no pace"
    await field.tick(after=timedelta(seconds=10))
    assert len(await field.in_state("told")) == 6
    assert await field.desk.context.store.read(count_wanted, None) == 6


async def test_a_rekey_that_is_rolled_back_lets_who_has_not_renewed_renew_in_its_time(field: Field) -> None:
    await started(field)
    first, second = sorted(await field.in_state("told"))
    await field.renew(first)
    await field.tick()
    assert await field.due() == {second}
    await field.order(_Event.HALT, reason="they come back hot")
    await field.order(_Event.ROLL_BACK)
    await field.tick()
    await field.tick(after=timedelta(seconds=5))
    assert await field.due() == set()
    rollout = (await field.view()).rollout
    assert rollout.state is _State.ROLLED_BACK
    assert rollout.reason == "they come back hot; all who were told are told to go back"


async def test_a_profile_that_is_rolled_back_is_what_it_was_and_who_had_renewed_renews_again(
    field: Field,
) -> None:
    await started(field, plan_text(kind="profile", more='profile = "prod/device"\non_halt = "roll-back"'))
    first, second = sorted(await field.in_state("told"))
    assert [await field.profile_of(name) for name in (first, second)] == ["device", "device"]
    await field.renew(first, profile="device")
    await field.trouble(second, "bad-key")
    await field.tick()
    await field.tick(after=timedelta(seconds=5))
    assert [await field.profile_of(name) for name in (first, second)] == ["", ""]
    assert await field.due() == {first}
    assert (await field.view()).rollout.state is _State.ROLLED_BACK


async def test_who_renews_by_another_profile_than_the_new_one_has_failed(field: Field) -> None:
    await started(field, plan_text(kind="profile", more='profile = "prod/device"'))
    first, _ = sorted(await field.in_state("told"))
    await field.renew(first, profile="other")
    await field.tick()
    assert await field.in_state("failed") == {first}


async def test_devices_of_a_rollout_that_was_abandoned_are_free(field: Field) -> None:
    await field.plan(plan_text())
    with pytest.raises(RefusedError, match="10 of its devices are in the rollout spring"):
        await field.plan(plan_text("summer"))
    await field.order(_Event.ABANDON)
    assert (await field.plan(plan_text("summer"))).devices == 10


async def test_a_plan_that_is_refused_leaves_nothing_behind(field: Field) -> None:
    with pytest.raises(RefusedError):
        await field.plan(plan_text(waves='["2", "3"]'))
    assert await field.rows() == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (plan_text(select="tag=none"), "it selects no device that could take part"),
        (plan_text(select="domain=prod"), "it selects every device in service (10) without saying so"),
        (
            plan_text(waves='["id=d-1", "id=d-*", "rest"]'),
            "overlaps waves before it: 1 of its devices is in both",
        ),
        (plan_text(waves='["2", "3"]'), "5 of its devices are in no wave"),
        (plan_text(waves='["60%", "50%"]'), "110 % of the devices together"),
        (plan_text(waves='["2", "90"]'), "the wave 2 wants 90 devices, and 8 are left for it"),
        (plan_text(waves='["tag=none", "rest"]'), "the pilot (tag=none) is empty"),
        (plan_text().replace("3000", "3001"), "3001 devices a minute are more than the 3000"),
        (plan_text(gate="least = 3"), "its gate wants 3 devices updated, and the pilot has 2"),
        (plan_text().replace("failed = 0.1", "failed = 0.2"), "20.00% fail, and wants 90.00% updated"),
        (plan_text(more='ends = "2030-06-01T12:20:00Z"'), "and is to end by 2030-06-01T12:20Z"),
        (plan_text().replace("5m", "95d"), "certificates of 10 of its devices end before"),
        (
            plan_text(more='windows = ["sun 02:30-02:31 UTC"]\nends = "2030-07-01T00:00:00Z"').replace(
                "3000", "1"
            ),
            "and is to end by 2030-07-01T00:00Z",
        ),
        (plan_text(kind="profile", more='profile = "prod/none"'), "prod has no profile none"),
        (plan_text(kind="profile", more='profile = "lab/device"'), "10 of its devices are not of the domain"),
        (plan_text(kind="ca", more='ca = "prod/none"'), "there is no issuing CA prod/none"),
        (plan_text(kind="trust", more='realm = "prod"'), "no rollover has prepared a trust bundle"),
    ],
)
async def test_a_plan_that_cannot_be_met_is_refused_when_it_is_saved(
    field: Field, text: str, reason: str
) -> None:
    await field.seen(*TEN)
    with pytest.raises(RefusedError) as caught:
        await field.plan(text)
    assert reason in str(caught.value)


async def test_whoever_is_refused_is_on_the_trail_and_a_rehearsal_is_not(field: Field) -> None:
    for saving in (Saving.REHEARSE, Saving.SAVE):
        order = PlanOrder(text=plan_text(select="tag=none"), actor="operator:ada", saving=saving)
        with pytest.raises(RefusedError):
            await plan_rollout(field.desk.context, order)
    assert await field.actions() == ["refused"]


async def test_a_rollout_that_was_saved_is_no_draft_to_be_forgotten(field: Field) -> None:
    await field.plan(plan_text())
    number = (await field.view()).rollout.number
    await forget_draft(field.desk.context, number)
    assert (await field.view()).total.waiting == 10


async def test_what_a_stop_has_left_of_a_plan_is_forgotten_at_the_next_start(field: Field) -> None:
    draft = Draft(plan=read_plan(plan_text()), text=plan_text(), target="", actor=OPERATOR, at=NOON)
    await field.desk.context.store.write(insert_draft, draft)
    assert await field.rows() == 3
    await forget_drafts(field.desk.context)
    assert await field.rows() == 0


async def test_nobody_is_told_or_runs_out_of_patience_while_the_broker_is_away(field: Field) -> None:
    await started(field)
    told = await field.in_state("told")
    await field.seen(*told)
    there = field.desk
    away = replace(there, context=replace(there.context, answering=lambda: False))
    field.desk = away
    await field.tick(after=timedelta(hours=2))
    field.desk = there
    await field.tick()
    assert await field.in_state("told") == told, "they have their time from now on"
    await field.tick(after=timedelta(minutes=11))
    assert await field.in_state("failed") == told
