"""What a worker is told: a bad cable, other firmware, half a protocol and a flood are told apart."""

import asyncio
import secrets
from pathlib import Path

import pytest

from fleet.station.drivers.smp import SmpDriver
from fleet.station.link import steps
from fleet.station.link.causes import Cause
from fleet.station.link.pace import Pace
from fleet.station.link.session import Session
from fleet.station.link.steps import Step
from tests.factory_floor import Floor
from tests.factory_line import Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(path=tmp_path / "ledger.db")


@pytest.mark.parametrize("number", range(2, 9))
async def test_a_unit_that_speaks_half_the_protocol_fell_silent(line: Line, number: int) -> None:
    wire = line.wire()
    wire.on_request = lambda count: count < number
    end = await line.serve(wire, tries=1)
    assert (end.step, end.cause) == (Step.FAILED, Cause.NOT_ANSWERING)
    assert line.unit.commits == 0


@pytest.mark.parametrize("seed", range(4))
async def test_a_line_that_spoils_nearly_everything_is_a_bad_cable(line: Line, seed: int) -> None:
    end = await line.serve(line.wire(noise=0.003, seed=seed), tries=1)
    assert end.step in (Step.SILENT, Step.FAILED)
    assert end.cause is Cause.BAD_CABLE


class Chatter:
    """A line on which somebody talks without end and hears nothing."""

    def __init__(self, says: bytes, *, times: int | None = None) -> None:
        self._says = says
        self._times = times

    async def read(self) -> bytes:
        if self._times == 0:
            await asyncio.Event().wait()
        if self._times is not None:
            self._times -= 1
        return self._says

    async def write(self, octets: bytes) -> None:
        """Nobody listens."""


async def heard(chatter: Chatter) -> steps.End:
    session = Session(identity=Floor().identity, pace=Pace(baud=4_000_000), randomness=secrets.token_bytes)

    async def decide(_question: steps.Question) -> steps.Decision:
        raise AssertionError("nobody said who he is")

    async with asyncio.timeout(30):
        return await SmpDriver(session, chatter).serve(decide=decide, watch=lambda _driver: None)


@pytest.mark.parametrize("says", [b"U" * 4096, b"\x00" * 4096, b"\x06\x09AAAA\n" * 500])
async def test_a_unit_that_floods_the_line_is_left_alone(says: bytes) -> None:
    end = await heard(Chatter(says))
    assert (end.step, end.cause) == (Step.SILENT, Cause.FLOODS)


async def test_a_flood_takes_nobody_elses_turn() -> None:
    flooded = asyncio.ensure_future(heard(Chatter(b"U" * 64)))
    turns = 0
    while not flooded.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 500


async def test_a_boot_log_is_other_firmware() -> None:
    end = await heard(Chatter(b"U-Boot 2024.01\r\nlogin: \r\n", times=20))
    assert (end.step, end.cause) == (Step.SILENT, Cause.OTHER_FIRMWARE)


async def test_bytes_of_another_speed_are_a_bad_cable() -> None:
    end = await heard(Chatter(b"\xf8\x80\xfe\x1c\xe0\x00\x7c", times=20))
    assert (end.step, end.cause) == (Step.SILENT, Cause.BAD_CABLE)
