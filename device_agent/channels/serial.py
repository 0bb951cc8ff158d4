"""The factory link on a serial port: bytes between a tty and the device's half of the link.

It judges nothing: what may be done stands in `core.station_link`. Needs pyserial, the extra `serial`.
"""

import asyncio
import errno
import logging
import os
import secrets
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from device_agent.core.station_link import Committed, StationLink
from device_agent.core.station_unit import Unit
from device_agent.errors import ChannelError, UsageError
from device_agent.wire.factory import NONCE_BYTES
from device_agent.wire.framing import Decoder, Frame, encode_burst
from device_agent.wire.smp import DEFAULT_GROUP

_log = logging.getLogger(__name__)

_READ_BYTES = 4096
_WRITE_SECONDS = 5.0
_REOPEN_SECONDS = 0.5
_QUIET_SECONDS = 3.0
"""After COMMIT: a station that lost the answer asks again well within this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialOptions:
    """How the port is used. `timeout` bounds the whole enrollment; None waits for a station for ever."""

    baud: int = 115200
    group: int = DEFAULT_GROUP
    timeout: timedelta | None = None


class _UnpluggedError(Exception):
    """The port went away."""


async def serve_station(
    port: str,
    unit: Unit,
    *,
    clock: Callable[[], datetime | None],
    options: SerialOptions = SerialOptions(),
) -> Committed:
    """Obey the station at the other end until it has committed a certificate; return which.

    A port that goes away is opened again when it is back. `clock` tells None where the time is not known.

    Raises:
        ChannelError: the port cannot be opened, or `options.timeout` passed.
        UsageError: pyserial is not installed, or it cannot set this speed.
    """
    link = StationLink(unit, group=options.group)
    seconds = options.timeout.total_seconds() if options.timeout else None
    try:
        async with asyncio.timeout(seconds):
            return await _serve(port, link, clock=clock, baud=options.baud)
    except TimeoutError as error:
        raise ChannelError(
            f"no station finished its work on {port} within {seconds:g} seconds",
            hint="is `fleet station run` listening at the other end",
        ) from error


async def _serve(
    port: str, link: StationLink, *, clock: Callable[[], datetime | None], baud: int
) -> Committed:
    while True:
        try:
            with _opened(port, baud) as line:
                return await _talk(line, link, clock)
        except _UnpluggedError:
            _log.info("the port %s went away, waiting for it", port)
        await _come_back(port)


async def _come_back(port: str) -> None:
    await asyncio.sleep(_REOPEN_SECONDS)
    while not await asyncio.to_thread(Path(port).exists):  # noqa: ASYNC110 - nothing tells when it is back
        await asyncio.sleep(_REOPEN_SECONDS)


async def _talk(line: "_Line", link: StationLink, clock: Callable[[], datetime | None]) -> Committed:
    decoder = Decoder()
    while True:
        try:
            async with asyncio.timeout(_QUIET_SECONDS if link.committed else None):
                octets = await line.read()
        except TimeoutError:
            octets = b""
        for frame in decoder.feed(octets):
            await _answer(line, link, frame, now=clock())
        if link.committed and (link.is_over or not octets):
            return link.committed


async def _answer(line: "_Line", link: StationLink, frame: Frame, *, now: datetime | None) -> None:
    handled = link.handle(frame.message, nonce=secrets.token_bytes(NONCE_BYTES), now=now)
    if handled.refused:
        _log.warning("refused the station: %s", handled.refused)
    if handled.answer is not None:
        await line.write(encode_burst(handled.answer, frame.framing))


@contextmanager
def _opened(port: str, baud: int) -> "Iterator[_Line]":
    try:
        import serial  # noqa: PLC0415 - behind the extra `serial`
    except ImportError as error:
        raise UsageError(
            "pyserial is not installed", hint="pip install 'fleet-provisioning[serial]'"
        ) from error
    try:
        # With an inter-byte timeout pyserial sets VMIN to 1; else a read of nothing looks like a hang-up.
        tty = serial.Serial(port, baud, timeout=0, inter_byte_timeout=0, exclusive=True)
    except (serial.SerialException, OSError) as error:
        raise ChannelError(
            f"cannot open {port}: {_reason(error)}", hint="is it plugged in and free"
        ) from error
    except ValueError as error:
        raise UsageError(f"{port} cannot be set to {baud} baud") from error
    line = _Line(tty.fileno())
    try:
        yield line
    finally:
        line.close()
        tty.close()


def _reason(error: OSError) -> str:
    if error.errno in (None, errno.EAGAIN, errno.EBUSY):
        return "another program has it, or it is no serial port"
    return os.strerror(error.errno)


class _Line:
    """An open tty on the event loop; bytes that the other end does not take in time are dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)

    async def read(self) -> bytes:
        """Return the next bytes, one at least; raises `_UnpluggedError`."""
        while True:
            try:
                octets = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
                continue
            except OSError as error:
                raise _UnpluggedError from error
            if not octets:
                raise _UnpluggedError
            return octets

    async def write(self, octets: bytes) -> None:
        """Send bytes; raises `_UnpluggedError`."""
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await self._write_all(octets)
        except TimeoutError:
            termios.tcflush(self._descriptor, termios.TCOFLUSH)
        except OSError as error:
            raise _UnpluggedError from error

    async def _write_all(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)

    async def _ready(
        self,
        add: Callable[[int, Callable[[], None]], object],
        remove: Callable[[int], object],
    ) -> None:
        ready = asyncio.Event()
        add(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self._descriptor)
