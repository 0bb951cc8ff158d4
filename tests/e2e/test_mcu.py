"""The reference firmware for microcontrollers, in QEMU, at a line with everything that may go wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_agent.wire import factory_requests as requests
from device_agent.wire.factory import LinkState, Rc
from device_agent.wire.framing import Framing
from firmware_scripts.mcu.building import text_bytes
from firmware_scripts.mcu.emulator import Board
from firmware_scripts.mcu.passport import ROOM
from fleet.core.station_recall import Fate
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.life import UnitState
from fleet.station.link import steps
from fleet.station.link.steps import Step
from tests.factory_floor import Floor, fixed_clock
from tests.factory_line import CLEAN_CALLS, FLOOR, KilledError, Line
from tests.mcu import McuWire, caller_of, firmware, new_board, wired

__all__ = ["firmware"]

pytestmark = [pytest.mark.needs("cargo"), pytest.mark.needs("qemu-system-arm")]

MOST_BYTES = 64 * 1024
HALF = 0x4000
ELSEWHERE = Floor()


@dataclass
class Bench:
    """One emulated unit at a line."""

    board: Board
    line: Line
    hardware_id: str = "hw-1"

    async def generations(self) -> list[tuple[UnitState, bytes]]:
        """Return state and fingerprint of what the station made for the unit."""
        path = self.line.path
        async with Ledger.opened(path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
            unit = await ledger.find(self.hardware_id)
        assert unit is not None
        return [(one.state, one.package.fingerprint if one.package else b"") for one in unit.generations]

    async def assert_committed_once(self, wire: McuWire) -> None:
        """One certificate was made, the ledger has it committed, and it is what the unit uses."""
        ((state, fingerprint),) = await self.generations()
        assert state is UnitState.COMMITTED
        assert len(self.line.enroller.made) == 1
        hello = caller_of(wire).hello()
        assert (hello.state, hello.fingerprint) == (LinkState.ACTIVE, fingerprint)


@pytest.fixture
def bench(firmware: Path, tmp_path: Path) -> Bench:
    return Bench(board=new_board(firmware, tmp_path), line=Line(tmp_path / "ledger.db"))


def test_the_firmware_fits_into_a_small_part(firmware: Path) -> None:
    assert text_bytes(firmware) < MOST_BYTES


@pytest.mark.parametrize("framing", Framing)
async def test_a_unit_is_made_in_either_framing(bench: Bench, framing: Framing) -> None:
    bench.line.framings = (framing,)
    with wired(bench.board) as wire:
        end = await bench.line.serve(wire)
        assert end.step is Step.COMMITTED
        assert wire.requests <= CLEAN_CALLS
        await bench.assert_committed_once(wire)


async def test_a_unit_that_is_run_again_proves_and_commits_only(bench: Bench) -> None:
    with wired(bench.board) as wire:
        await bench.line.serve(wire)
        before = wire.requests
        end = await bench.line.serve(wire)
        assert end.step is Step.COMMITTED
        assert wire.requests - before == 4  # HELLO, PROVE, COMMIT, STATUS
        await bench.assert_committed_once(wire)


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
async def test_a_unit_is_made_through_line_noise(bench: Bench, noise: float) -> None:
    with wired(bench.board, noise=noise, seed=7) as wire:
        end = await bench.line.serve(wire)
    with wired(bench.board) as wire:
        assert end.step is Step.COMMITTED
        await bench.assert_committed_once(wire)


class Saboteur:
    """Cuts the power once at each of the calls of a visit: before the unit has it, and after it answered."""

    def __init__(self, wire: McuWire) -> None:
        self._wire = wire
        self._in_this_boot = 0
        self._cuts: Iterator[tuple[str, int]] = iter(
            (moment, call) for call in range(1, CLEAN_CALLS + 1) for moment in ("request", "answer")
        )
        self.made = 0
        self._next = next(self._cuts, None)
        wire.on_request, wire.on_answer = self._request, self._answer

    def _request(self, _number: int) -> bool:
        self._in_this_boot += 1
        return self._let("request")

    def _answer(self, _number: int) -> bool:
        return self._let("answer")

    def _let(self, moment: str) -> bool:
        if self._next != (moment, self._in_this_boot):
            return True
        self._wire.power_cycle()
        self._in_this_boot = 0
        self.made += 1
        self._next = next(self._cuts, None)
        return False


async def test_power_cuts_at_every_call_end_in_one_certificate(bench: Bench) -> None:
    with wired(bench.board) as wire:
        saboteur = Saboteur(wire)
        end = await bench.line.serve(wire, tries=60)
        assert end.step is Step.COMMITTED
        assert saboteur.made >= 12
        await bench.assert_committed_once(wire)


async def test_a_torn_flash_write_leaves_the_record_before_it_or_the_new_one(bench: Bench) -> None:
    images: list[bytes] = []

    def keep(_number: int) -> bool:
        image = bench.board.flash.read_bytes()[: ROOM + 2 * HALF]
        if not images or images[-1] != image:
            images.append(image)
        return True

    with wired(bench.board) as wire:
        wire.on_answer = keep
        await bench.line.serve(wire)
    states = [LinkState.FRESH, LinkState.KEYED, LinkState.PENDING, LinkState.ACTIVE]
    assert len(images) == len(states)
    for before, after, old, new in zip(images, images[1:], states, states[1:], strict=False):
        for torn in torn_writes(before, after):
            bench.board.prepare(torn)
            with wired(bench.board) as wire:
                hello = caller_of(wire).hello()
            assert hello.state in (old, new)


def torn_writes(before: bytes, after: bytes) -> list[bytes]:
    """Return flashes whose power went while one half was erased, filled, or given its head."""
    half = next(at for at in (ROOM, ROOM + HALF) if before[at : at + HALF] != after[at : at + HALF])
    erased = before[:half] + b"\xff" * HALF + before[half + HALF :]
    body = half + 64
    return [
        before[:half] + b"\xff" * 1000 + before[half + 1000 :],
        erased,
        erased[:body] + after[body : body + 300] + erased[body + 300 :],
        erased[:body] + after[body : half + HALF] + erased[half + HALF :],
        erased[:half] + after[half : half + 20] + erased[half + 20 : body] + after[body:],
    ]


async def test_a_wiped_unit_gets_a_new_certificate_and_the_old_one_is_revoked(bench: Bench) -> None:
    with wired(bench.board) as wire:
        await bench.line.serve(wire)
    flash = bench.board.flash.read_bytes()
    bench.board.prepare(flash[:ROOM].ljust(len(flash), b"\xff"))
    with wired(bench.board) as wire:
        end = await bench.line.serve(wire)
    assert end.step is Step.COMMITTED
    (old, _), (new, _) = await bench.generations()
    assert (old, new) == (UnitState.REVOKED, UnitState.COMMITTED)


async def test_a_unit_that_is_reworked_before_its_commit_makes_another_key_by_itself(bench: Bench) -> None:
    def dies(question: steps.Question) -> None:
        if isinstance(question, steps.RecordProof):
            raise KilledError

    with wired(bench.board) as wire:
        await bench.line.serve(wire, tries=1, spoil=dies)
        opening = Ledger.opened(bench.line.path, clock=fixed_clock, identity=FLOOR.identity)
        async with opening as ledger:
            await ledger.quarantine(bench.hardware_id, "the test jig says no")
            await ledger.release(bench.hardware_id, by="operator:ada", fate=Fate.REWORK)
        end = await bench.line.serve(wire)
    assert end.step is Step.COMMITTED
    (old, _), (new, _) = await bench.generations()
    assert (old, new) == (UnitState.REVOKED, UnitState.COMMITTED)


async def test_a_copied_flash_is_quarantined_after_the_unit_was_made_anew(bench: Bench) -> None:
    with wired(bench.board) as wire:
        await bench.line.serve(wire)
    copy = bench.board.flash.read_bytes()
    bench.board.prepare(copy[:ROOM].ljust(len(copy), b"\xff"))
    with wired(bench.board) as wire:
        await bench.line.serve(wire)
    bench.board.prepare(copy)
    with wired(bench.board) as wire:
        end = await bench.line.serve(wire)
    assert end.step is Step.QUARANTINED


async def test_a_unit_of_another_fleet_obeys_no_station_of_this_one(firmware: Path, tmp_path: Path) -> None:
    line = Line(tmp_path / "ledger.db")
    with wired(new_board(firmware, tmp_path, anchors=(ELSEWHERE.anchor,))) as wire:
        end = await line.serve(wire, tries=1)
        assert end.step is Step.FAILED
        assert "unauthorised" in end.detail
        assert caller_of(wire).hello().state is LinkState.KEYED


async def test_a_unit_keeps_its_record_over_a_reset_by_a_stock_command(bench: Bench) -> None:
    with wired(bench.board) as wire:
        await bench.line.serve(wire)
        caller_of(wire).reset()
        await bench.assert_committed_once(wire)


async def test_what_is_unknown_is_refused_and_changes_nothing(bench: Bench) -> None:
    with wired(bench.board) as wire:
        caller = caller_of(wire)
        caller.hello()
        assert caller.rc(requests.Attest(nonce=bytes(16))) == Rc.UNSUPPORTED
        assert caller.rc(requests.Commit(fingerprint=bytes(32))) == Rc.STATE
        assert caller.rc(requests.Ask(nonce=bytes(32), time=0)) == Rc.STATE
        assert caller.hello().state is LinkState.FRESH
