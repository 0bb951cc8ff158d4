"""The factory link cut, killed and spoilt at every point: each unit ends committed, once."""

import itertools
from pathlib import Path

import pytest

from device_agent.wire.framing import Framing
from fleet.station.link import steps
from fleet.station.link.steps import Step
from tests.factory_line import CLEAN_CALLS, KilledError, Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(path=tmp_path / "ledger.db")


CUTS = [*itertools.product(range(1, CLEAN_CALLS + 1), ("before", "after"), ("lost", "power"))]


@pytest.mark.parametrize(("number", "moment", "kind"), CUTS)
async def test_a_cut_at_any_request_ends_committed_once(
    line: Line, number: int, moment: str, kind: str
) -> None:
    wire = line.wire()

    def cut(count: int) -> bool:
        if count == number and kind == "power":
            wire.power_cycle()
        return count != number

    if moment == "before":
        wire.on_request = cut
    else:
        wire.on_answer = cut
    assert (await line.serve(wire)).step is Step.COMMITTED
    await line.assert_committed_once()


@pytest.mark.parametrize(
    ("number", "moment"), [*itertools.product(range(1, CLEAN_CALLS + 1), ("before", "after"))]
)
async def test_a_station_killed_at_any_request_ends_committed_once(
    line: Line, number: int, moment: str
) -> None:
    wire = line.wire()

    def kill(count: int) -> bool:
        if count == number:
            raise KilledError
        return True

    if moment == "before":
        wire.on_request = kill
    else:
        wire.on_answer = kill
    assert (await line.serve(wire)).step is Step.COMMITTED
    await line.assert_committed_once()


QUESTION_KINDS = [steps.Recognise, steps.Issue, steps.RecordProof, steps.RecordCommit]


@pytest.mark.parametrize("kind", QUESTION_KINDS)
async def test_a_station_killed_between_ledger_and_line_ends_committed_once(
    line: Line, kind: type[steps.Question]
) -> None:
    killed = False

    def kill_once(question: steps.Question) -> None:
        nonlocal killed
        if isinstance(question, kind) and not killed:
            killed = True
            raise KilledError

    assert (await line.serve(line.wire(), spoil=kill_once)).step is Step.COMMITTED
    assert killed
    await line.assert_committed_once()


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("framing", Framing)
async def test_with_one_wrong_bit_in_2000_the_first_pass_succeeds(
    line: Line, framing: Framing, seed: int
) -> None:
    line.framings = (framing,)
    end = await line.serve(line.wire(noise=5e-4, seed=seed))
    assert end.step is Step.COMMITTED
    await line.assert_committed_once()


@pytest.mark.parametrize("seed", range(10))
async def test_noise_and_power_cuts_together_end_committed_once(line: Line, seed: int) -> None:
    wire = line.wire(noise=2e-4, seed=seed)

    def cut(count: int) -> bool:
        if count % 17 == 0:
            wire.power_cycle()
        return True

    wire.on_answer = cut
    assert (await line.serve(wire, tries=60)).step is Step.COMMITTED
    await line.assert_committed_once()
