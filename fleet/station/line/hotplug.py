"""Which USB adapters are plugged in, by vendor, product and serial number; asked twice a second."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from fleet.errors import BadInputError, UsageError

LOOK_SECONDS = 0.5
_RULE = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::([\x21-\x7e]{1,126}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A serial port on USB."""

    port: str
    vendor: int
    product: int
    serial: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbRule:
    """Adapters that are lanes of the line; without a serial number, all of a product."""

    vendor: int
    product: int
    serial: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `VID:PID` or `VID:PID:SERIAL`, the first two as four hexadecimal digits.

        Raises:
            BadInputError: it is none.
        """
        match = _RULE.fullmatch(text)
        if match is None:
            raise BadInputError(
                f"{text!a} is no VID:PID or VID:PID:SERIAL", hint="lsusb shows them: 0403:6001"
            )
        return cls(vendor=int(match[1], 16), product=int(match[2], 16), serial=match[3])

    def fits(self, adapter: Adapter) -> bool:
        """Tell whether an adapter is meant."""
        same = (adapter.vendor, adapter.product) == (self.vendor, self.product)
        return same and self.serial in (None, adapter.serial)


Look: TypeAlias = Callable[[], Sequence[Adapter]]


def adapters() -> tuple[Adapter, ...]:
    """Return what is plugged in now.

    Raises:
        UsageError: pyserial is not installed.
    """
    try:
        from serial.tools.list_ports import comports  # noqa: PLC0415 - behind the extra `serial`
    except ImportError as error:
        raise UsageError(
            "pyserial is not installed", hint="pip install 'fleet-provisioning[serial]'"
        ) from error
    return tuple(
        Adapter(port=found.device, vendor=found.vid, product=found.pid, serial=found.serial_number or "")
        for found in comports()
        if found.vid is not None
    )


async def watched(
    rules: Sequence[UsbRule], *, look: Look = adapters, every: float = LOOK_SECONDS
) -> AsyncIterator[frozenset[str]]:
    """Yield the ports of all adapters that a rule fits, now and each time that they changed."""
    before: frozenset[str] | None = None
    while True:
        found = await asyncio.to_thread(look)
        ports = frozenset(one.port for one in found if any(rule.fits(one) for rule in rules))
        if ports != before:
            before = ports
            yield ports
        await asyncio.sleep(every)
