"""Judges a rollout by its gates, and does what they say: the next wave, the end, or a halt by itself.

A verdict and what it was made of are in one commit with what comes of it: two servers' lives, or an operator
beside, cannot take the same step twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.core.rollout import (
    Judgement,
    RolloutEvent,
    RolloutState,
    Verdict,
    WaveStanding,
    failing,
    judge,
)
from fleet.core.rollout_plan import OnHalt, Rollout, RolloutWave
from fleet.ports import Transaction
from fleet.ra.campaigns.records import SERVER, Details, Step, find, save, take, tell
from fleet.store import rollouts

_JUDGED = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """When which rollout is judged."""

    name: str
    at: datetime


async def judge_rollout(tx: Transaction, sitting: Sitting) -> Rollout:
    """Judge a rollout as it stands, and return what became of it."""
    rollout = await find(tx, sitting.name)
    if rollout.state not in _JUDGED:
        return rollout
    waves = await rollouts.list_waves(tx, rollout.number)
    for wave in waves[: rollout.wave - 1]:
        if (found := failing(rollout.plan.gate, wave.standing, now=sitting.at)) is not None:
            return await _halt(tx, rollout, wave, found, sitting.at)
    wave = waves[rollout.wave - 1]
    found = judge(rollout.plan.gate, wave.standing, now=sitting.at)
    match found.verdict:
        case Verdict.HALT:
            return await _halt(tx, rollout, wave, found, sitting.at)
        case Verdict.SETTLE:
            standing = replace(wave.standing, settled_at=sitting.at)
            await rollouts.save_wave(tx, rollout.number, replace(wave, standing=standing))
            await _told(tx, rollout, wave, found, action="rollout.wave-settled", at=sitting.at)
        case Verdict.PASSED if rollout.state is RolloutState.RUNNING:
            return await _passed(tx, rollout, waves, found, sitting.at)
    return rollout


async def begin_wave(tx: Transaction, rollout: Rollout, wave: RolloutWave, *, at: datetime) -> None:
    """Note that a wave begins."""
    await rollouts.save_wave(tx, rollout.number, replace(wave, began_at=at))
    step = Step(name=rollout.plan.name, event=RolloutEvent.START, actor=SERVER, at=at)
    await tell(tx, rollout, step, action="rollout.wave-begun", details=_details(wave))


async def _passed(
    tx: Transaction, rollout: Rollout, waves: Sequence[RolloutWave], found: Judgement, at: datetime
) -> Rollout:
    wave = waves[rollout.wave - 1]
    await rollouts.save_wave(tx, rollout.number, replace(wave, passed_at=at))
    await _told(tx, rollout, wave, found, action="rollout.gate-passed", at=at)
    if rollout.wave == len(waves):
        step = Step(name=rollout.plan.name, event=RolloutEvent.COMPLETE, actor=SERVER, at=at)
        return await take(tx, rollout, step, details=_sums(waves))
    following = replace(rollout, wave=rollout.wave + 1)
    await save(tx, following, seen=rollout.version)
    await begin_wave(tx, following, waves[rollout.wave], at=at)
    return following


async def _halt(
    tx: Transaction, rollout: Rollout, wave: RolloutWave, found: Judgement, at: datetime
) -> Rollout:
    reason = f"{wave.name}: {found.reason}"
    step = Step(name=rollout.plan.name, event=RolloutEvent.HALT, actor=SERVER, at=at, reason=reason)
    halted = await take(tx, rollout, step, details=(("rule", found.rule), *_details(wave)))
    if rollout.plan.on_halt is OnHalt.STOP:
        return halted
    back = replace(step, event=RolloutEvent.ROLL_BACK, reason="the plan says so")
    return await take(tx, halted, back)


async def _told(
    tx: Transaction, rollout: Rollout, wave: RolloutWave, found: Judgement, *, action: str, at: datetime
) -> None:
    step = Step(name=rollout.plan.name, event=RolloutEvent.START, actor=SERVER, at=at, reason=found.reason)
    await tell(tx, rollout, step, action=action, details=(("rule", found.rule), *_details(wave)))


def _details(wave: RolloutWave) -> Details:
    return (("wave", wave.name), *_counts(wave.standing))


def _counts(standing: WaveStanding) -> Details:
    counts = [(state.value, count) for state, count in standing.tally.by_state()]
    counts.append(("forgiven", standing.forgiven))
    return tuple((name, str(count)) for name, count in counts if count)


def _sums(waves: Sequence[RolloutWave]) -> Details:
    total = waves[0].standing
    for wave in waves[1:]:
        forgiven = total.forgiven + wave.standing.forgiven
        total = replace(total, tally=total.tally.plus(wave.standing.tally), forgiven=forgiven)
    return _counts(total)
