"""The reference firmware for microcontrollers, in QEMU, at a line with everything that may go wrong."""

from pathlib import Path

import pytest

from device_agent.wire.factory import LinkState
from device_agent.wire.framing import Framing
from fleet.station.steps import Step
from tests.factory_line import Line
from tests.mcu import firmware, new_board, wired

__all__ = ["firmware"]

pytestmark = [pytest.mark.needs("cargo"), pytest.mark.needs("qemu-system-arm")]


@pytest.mark.parametrize("framing", Framing)
async def test_the_firmware_is_made_at_a_line(firmware: Path, tmp_path: Path, framing: Framing) -> None:
    line = Line(tmp_path / "ledger.db", framings=(framing,))
    with wired(new_board(firmware, tmp_path)) as wire:
        end = await line.serve(wire)
    assert end.step is Step.COMMITTED, end
