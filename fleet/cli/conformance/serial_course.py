"""All checks of a device on a serial line, in their order."""

from collections.abc import Callable

from device_agent.wire.smp import DEFAULT_GROUP
from fleet.cli.conformance.check import Check, Result, run
from fleet.cli.conformance.device import Device
from fleet.cli.conformance.link import Link
from fleet.cli.conformance.serial_life import LIFE
from fleet.cli.conformance.serial_talk import TALK
from fleet.cli.conformance.workshop import Workshop
from fleet.station.link.port import Line

COURSE: tuple[Check[Device], ...] = (*TALK, *LIFE)


async def check_serial(
    line: Line,
    *,
    workshop: Workshop,
    device_id: str,
    report: Callable[[Result], None],
    group: int = DEFAULT_GROUP,
    patience: float = 1.0,
) -> tuple[Result, ...]:
    """Check the device on a line; raises `UnpluggedError` where the port goes away."""
    device = Device(link=Link(line, group=group, patience=patience), workshop=workshop, device_id=device_id)
    return await run(COURSE, device, report=report)
