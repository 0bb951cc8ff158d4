"""The conformance kit with our firmware in QEMU, as any maker of firmware would run it."""

import asyncio
import socket
from pathlib import Path

import pytest

from fleet.cli.conformance.check import Outcome
from fleet.cli.conformance.serial_course import check_serial
from fleet.cli.conformance.workshop import Workshop
from tests.mcu import Power, firmware, new_board

pytestmark = [pytest.mark.needs("cargo"), pytest.mark.needs("qemu-system-arm")]

__all__ = ["firmware"]


class SocketLine:
    """A `Line` over the socket that the firmware's UART ends in."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._end, 4096)

    async def write(self, octets: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._end, octets)


async def test_our_firmware_conforms(firmware: Path, tmp_path: Path) -> None:
    workshop = Workshop.opened()
    power = Power(new_board(firmware, tmp_path, anchors=(workshop.servers_root.der,)))
    try:
        results = await check_serial(
            SocketLine(power.line), workshop=workshop, device_id="d1", report=lambda _result: None
        )
    finally:
        power.cut()
    assert {one.name: one.detail for one in results if one.outcome is not Outcome.PASS} == {}
