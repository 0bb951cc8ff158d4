"""ESP32s on a line: Espressif's esptool writes for us, and a ROM's bootloader stands behind the port."""

import struct
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.model import KeyOrigin
from fleet.station.drivers.course import Course
from fleet.station.drivers.esp_image import EspImage
from fleet.station.drivers.esp_secure_cert import OFFSET, SIZE, SecureCert
from fleet.station.drivers.esptool import Esptool
from fleet.station.keeping.ledger import Ledger
from fleet.station.link import steps
from fleet.station.link.causes import Cause
from fleet.station.link.port import UnpluggedError, opened
from fleet.station.link.steps import Step
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from tests.factory_floor import fixed_clock
from tests.vendors.bench import FLOOR
from tests.vendors.esp_rom import EspRom
from tests.vendors.line import at_pty

MAC = "24:6f:28:a1:b2:c3"


class Line:
    """A chip at a port, and a station that serves it."""

    def __init__(self, path: Path, rom: EspRom) -> None:
        self.path = path / "ledger.db"
        self.rom = rom
        self.enroller = replace(FLOOR.enroller, made={}, owners={}, confirmed=[], revoked=[])
        self.asked: list[steps.Issue] = []

    async def visit(self) -> steps.End:
        with at_pty(self.rom) as port, opened(port, baud=115200) as line:
            tool = Esptool(line, baud=115200, reset="no-reset")
            async with Ledger.opened(self.path, identity=FLOOR.identity, clock=fixed_clock) as ledger:
                clerk = Clerk(ledger=ledger, enroller=self.enroller, ids=IdRule(prefix="esp-"))

                async def decide(question: steps.Question) -> steps.Decision:
                    if isinstance(question, steps.Issue):
                        self.asked.append(question)
                    return await clerk.decide(question)

                course = Course(EspImage(tool), recall=clerk.generations_of, spent=lambda: (tool.runs, 0))
                return await course.serve(decide=decide, watch=lambda _driver: None)

    @property
    def partition(self) -> bytes:
        return bytes(self.rom.flash[OFFSET : OFFSET + SIZE])


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path, EspRom())


async def test_a_chip_gets_its_partition_once(line: Line) -> None:
    end = await line.visit()
    assert (end.step, end.detail) == (Step.COMMITTED, "")
    found = SecureCert.read(line.partition)
    (made,) = line.enroller.made.values()
    assert found.chain == made.chain
    assert found.key_octets
    assert [asked.key for asked in line.asked] == [KeyOrigin.HOST]
    assert line.rom.written == [OFFSET]
    assert (await line.visit()).step is Step.COMMITTED
    assert (len(line.enroller.made), line.rom.written) == (1, [OFFSET])


async def test_a_chip_that_was_cut_off_in_the_middle_of_its_flash_is_made_again(line: Line) -> None:
    line.rom.dies_after = 2
    assert (await line.visit()).step is Step.FAILED
    line.rom.power_cycle()
    assert (await line.visit()).step is Step.COMMITTED
    live = {made.serial for made in line.enroller.made.values()} - set(line.enroller.revoked)
    assert len(live) == 1


async def test_flash_that_spoils_what_is_written_is_found(line: Line) -> None:
    line.rom.spoils = True
    end = await line.visit()
    assert (end.step, end.cause) == (Step.FAILED, Cause.BAD_CABLE)


async def test_somebody_elses_partition_is_never_written_over(line: Line) -> None:
    line.rom.flash[OFFSET : OFFSET + 4] = struct.pack("<I", 0xBA5EBA11)
    assert (await line.visit()).step is Step.QUARANTINED
    assert line.rom.written == []


async def test_the_key_stands_in_the_flash_and_in_no_file(line: Line, tmp_path: Path) -> None:
    await line.visit()
    marker = line.partition.index(bytes.fromhex("06072a8648ce3d0201"))
    secret = line.partition[marker + 30 : marker + 50]
    assert all(secret not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_a_port_where_no_chip_is_stays_silent(tmp_path: Path) -> None:
    class Nothing(EspRom):
        def feed(self, octets: bytes) -> bytes:
            return b""

    assert (await Line(tmp_path, Nothing()).visit()).step is Step.SILENT


async def test_a_port_that_is_lent_belongs_to_the_borrower(tmp_path: Path) -> None:
    with at_pty(EspRom()) as port, opened(port, baud=115200) as line:
        with line.lent() as path, opened(path, baud=115200):
            assert path == port
        with ExitStack() as borrower, pytest.raises(UnpluggedError, match="given back"), line.lent() as path:
            borrower.enter_context(opened(path, baud=115200))
