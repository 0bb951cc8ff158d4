"""The matrix of the line's faults: every unit ends committed exactly once, or in quarantine with a reason.

Faults are tried at every place, one run each, on both real halves of the link with a ledger on disk. At the
end it prints how many runs there were and what became of them. The suite tries some of the bytes, `make
faults` tries every one.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from device_agent.core.station_unit import UnitReport
from device_agent.wire.framing import Framing
from fleet.station.keeping.ledger import Ledger
from fleet.station.link import steps
from fleet.station.link.steps import Step
from tests.factory_floor import MemoryUnit, Wire, fixed_clock
from tests.factory_line import CLEAN_CALLS, FLOOR, KilledError, Line

EVERY = 1 if "FAULT_SEEDS" in os.environ else 61
"""Of how many bytes one is tried; a prime, so that it hits every place of a frame."""
SEEDS = range(int(os.environ.get("FAULT_SEEDS", "1")) * 12)
MOST_BYTES = {Framing.COBS: 3600, Framing.LINES: 5200}


@dataclass
class Tally:
    """What became of the units."""

    ends: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    wrong: int = 0
    duplicates: int = 0

    def lines(self) -> Iterator[str]:
        kinds = sorted({kind for kind, _ in self.ends})
        yield f"{'fault':34}{'runs':>7}{'committed once':>17}{'quarantined':>14}"
        for kind in kinds:
            committed, quarantined = self.ends[kind, "committed"], self.ends[kind, "quarantined"]
            yield f"{kind:34}{committed + quarantined:7}{committed:17}{quarantined:14}"
        runs = sum(self.ends.values())
        yield f"{runs} runs, {self.wrong} wrong commits, {self.duplicates} duplicate live certificates"


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    found = Tally()
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + "\n".join(found.lines()))
    assert (found.wrong, found.duplicates) == (0, 0)


async def judge(line: Line, end: steps.End, tally: Tally, kind: str) -> None:
    """Count what became of a unit, by what is on it, in the ledger and at the authority."""
    async with Ledger.opened(line.path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
        kept = await ledger.find(line.unit.hardware_id)
    live = len(line.enroller.made) - len(line.enroller.revoked)
    tally.duplicates += live > 1
    slot = line.unit.active
    if end.step is Step.QUARANTINED:
        assert kept is not None
        assert kept.doubt
        assert slot is None
        tally.ends[kind, "quarantined"] += 1
        return
    assert end.step is Step.COMMITTED, (kind, end)
    assert kept is not None
    assert slot is not None
    generation = kept.with_fingerprint(slot.fingerprint)
    leaf = x509.load_der_x509_certificate(slot.installation.chain[0]) if slot.installation else None
    right = (
        generation is not None
        and leaf is not None
        and leaf.public_key() == slot.key.public_key()
        and leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == kept.device_id
    )
    tally.wrong += not right or line.unit.commits != 1
    tally.ends[kind, "committed"] += 1


class UnpluggedError(KilledError):
    """The cable was pulled here: the session is gone on both sides."""


class CutWire(Wire):
    """A cable that is pulled after so many bytes and plugged in again; the unit may lose its power too."""

    def __init__(self, unit: MemoryUnit, *, after: int, power: bool) -> None:
        super().__init__(unit)
        self._left = after
        self._power = power
        self.was_cut = False

    def exchange(self, burst: bytes) -> bytes:
        self.on_request = lambda _number: True
        sent = self._through(burst)
        answers = super().exchange(sent)
        back = self._through(answers)
        if self.was_cut or self._left >= 0:
            return back
        self.was_cut = True
        if self._power:
            self.power_cycle()
        raise UnpluggedError

    def _through(self, octets: bytes) -> bytes:
        if self.was_cut:
            return octets
        through = octets[: max(0, self._left)]
        self._left -= len(octets)
        return through


@pytest.mark.parametrize("power", [False, True], ids=["unplugged", "power-cut"])
@pytest.mark.parametrize("framing", Framing)
async def test_a_cable_pulled_at_any_byte(
    tmp_path: Path, tally: Tally, framing: Framing, power: bool
) -> None:
    what = "power cut" if power else "unplugged"
    for after in range(0, MOST_BYTES[framing], EVERY):
        line = Line(path=tmp_path / f"{after}.db", framings=(framing,))
        wire = CutWire(line.unit, after=after, power=power)
        end = await line.serve(wire)
        await judge(line, end, tally, f"{what} at a byte, {framing}")


PLACES = [*itertools.product(range(1, CLEAN_CALLS + 1), ("before", "after"))]


async def test_a_station_killed_at_any_message(tmp_path: Path, tally: Tally) -> None:
    for number, moment in PLACES:
        line = Line(path=tmp_path / f"{number}{moment}.db")
        wire = line.wire()

        def kill(count: int, at: int = number) -> bool:
            if count == at:
                raise KilledError
            return True

        if moment == "before":
            wire.on_request = kill
        else:
            wire.on_answer = kill
        await judge(line, await line.serve(wire), tally, "station killed at a message")


QUESTIONS = [steps.Recognise, steps.Issue, steps.RecordProof, steps.RecordCommit]


async def test_a_station_killed_between_ledger_and_line(tmp_path: Path, tally: Tally) -> None:
    for kind in QUESTIONS:
        line = Line(path=tmp_path / f"{kind.__name__}.db")
        await judge(
            line, await line.serve(line.wire(), spoil=once(kind)), tally, "station killed at its ledger"
        )


def once(kind: type[steps.Question]) -> Callable[[steps.Question], None]:
    killed: list[steps.Question] = []

    def kill(question: steps.Question) -> None:
        if isinstance(question, kind) and not killed:
            killed.append(question)
            raise KilledError

    return kill


async def test_noise_with_power_cuts(tmp_path: Path, tally: Tally) -> None:
    for seed in SEEDS:
        line = Line(path=tmp_path / f"{seed}.db")
        wire = line.wire(noise=2e-4, seed=seed)

        def cut(count: int, seed: int = seed, wire: Wire = wire) -> bool:
            if (count + seed) % 17 == 0:
                wire.power_cycle()
            return True

        wire.on_answer = cut
        await judge(line, await line.serve(wire, tries=60), tally, "noise 2e-4 and power cuts")


@dataclass
class Copycat(MemoryUnit):
    """Answers with a request that it has seen at another unit."""

    stolen: bytes = b""

    def request(self, device_id: str) -> bytes:
        super().request(device_id)
        if self.pending is not None:
            self.pending = replace(self.pending, csr=self.stolen)
        return self.stolen


async def test_a_unit_that_answers_with_anothers_request(tmp_path: Path, tally: Tally) -> None:
    for shown_first in (True, False):
        honest = Line(path=tmp_path / f"{shown_first}.db")
        csr = honest.unit.request("line3-0001")
        thief = replace(honest, unit=Copycat(hardware_id="hw-2", stolen=csr, anchors=(FLOOR.anchor,)))
        for line in (honest, thief) if shown_first else (thief, honest):
            end = await line.serve(line.wire())
            if line is thief:
                assert end.step is Step.QUARANTINED
                await judge_thief(thief, tally)
        assert thief.unit.commits == 0


async def judge_thief(line: Line, tally: Tally) -> None:
    async with Ledger.opened(line.path, clock=fixed_clock, identity=FLOOR.identity) as ledger:
        kept = await ledger.find(line.unit.hardware_id)
    assert kept is not None
    assert kept.doubt
    tally.wrong += line.unit.active is not None
    tally.ends["another's request", "quarantined"] += 1


@dataclass
class Changeling(MemoryUnit):
    """Says that it is another unit after a number of messages."""

    after: int = 1
    reports: int = 0

    def report(self) -> UnitReport:
        self.reports += 1
        shown = super().report()
        return replace(shown, hardware_id="hw-9") if self.reports == self.after else shown


async def test_a_unit_that_changes_its_id_between_steps(tmp_path: Path, tally: Tally) -> None:
    for after in range(1, 12):
        unit = Changeling(anchors=(FLOOR.anchor,), after=after)
        line = Line(path=tmp_path / f"{after}.db", unit=unit)
        end = await line.serve(line.wire())
        live = len(line.enroller.made) - len(line.enroller.revoked)
        is_done = end.step is Step.COMMITTED
        assert is_done or (end.step is Step.QUARANTINED and end.detail)
        tally.wrong += unit.commits != is_done
        tally.duplicates += live > 1
        tally.ends["id changed", "committed" if is_done else "quarantined"] += 1
