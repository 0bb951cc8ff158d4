"""A serial port of the station, on the event loop. The only place here that knows pyserial and ttys.

It works on real ttys and on ptys. Bytes that the other end does not take in time are dropped, as on a
wire that nobody listens to.
"""

import asyncio
import errno
import fcntl
import os
import stat
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from fleet.errors import BadInputError, UnreachableError, UsageError

_READ_BYTES = 4096
_WRITE_SECONDS = 5.0
_WHICH = "ls /dev/tty* shows them"


class UnpluggedError(UnreachableError):
    """The port went away."""


class Line(Protocol):
    """Bytes to and from what is at the other end."""

    async def read(self) -> bytes:
        """Return the next bytes, one at least; raises `UnpluggedError`."""
        ...

    async def write(self, octets: bytes) -> None:
        """Send bytes; raises `UnpluggedError`."""
        ...


class Lendable(Protocol):
    """A line that a program of its own can have for a while."""

    def lent(self) -> AbstractContextManager[str]:
        """Return the path of the port, free for another program as long as the context lasts."""
        ...


def is_there(port: str) -> bool:
    """Return whether a port can be opened now; a path that is no tty is one that cannot.

    Raises:
        BadInputError: the path is something else than a port.
    """
    try:
        mode = Path(port).stat().st_mode
    except OSError:
        return False
    if not stat.S_ISCHR(mode):
        raise BadInputError(f"{port} is not a serial port", hint=_WHICH)
    return True


def require_port(port: str) -> None:
    """Refuse a path that can never become a port, such as a file or /dev/null; one that is not there may.

    Raises:
        BadInputError: the path is something else than a port.
    """
    if not is_there(port):
        return
    try:
        descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return  # another program has it, or it is not ours: that may change
    try:
        if not os.isatty(descriptor):
            raise BadInputError(f"{port} is not a serial port", hint=_WHICH)
    finally:
        os.close(descriptor)


@contextmanager
def opened(port: str, *, baud: int) -> "Iterator[TtyLine]":
    """Open a port for this program alone.

    Raises:
        UnreachableError: it is not there, not permitted, or another program has it.
        UsageError: pyserial is not installed, or the port does not do this speed.
    """
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
        raise UnreachableError(
            f"cannot open {port}: {_reason(error)}", hint="is it plugged in, free and yours"
        ) from error
    except ValueError as error:
        raise UsageError(f"{port} cannot be set to {baud} baud") from error
    line = TtyLine(tty.fileno(), path=port)
    try:
        yield line
    finally:
        line.close()
        tty.close()


def _reason(error: OSError) -> str:
    if error.errno in (None, errno.EAGAIN, errno.EBUSY):
        return "another program has it"
    return os.strerror(error.errno)


class TtyLine:
    """An open tty. Must be made in a running event loop."""

    def __init__(self, descriptor: int, *, path: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def lent(self) -> Iterator[str]:
        """Let another program have the port, whose lock (flock, as pyserial's) is taken back in the end.

        Raises:
            UnpluggedError: another program still has it, or it went away.
        """
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        try:
            yield self._path
        finally:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UnpluggedError("the port was not given back") from error

    def close(self) -> None:
        """Let the event loop forget the port; its file is its opener's."""
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)

    async def read(self) -> bytes:
        """Return the next bytes, one at least; raises `UnpluggedError`."""
        while True:
            try:
                octets = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
                continue
            except OSError as error:
                raise UnpluggedError("the port went away") from error
            if not octets:
                raise UnpluggedError("the port went away")
            return octets

    async def write(self, octets: bytes) -> None:
        """Send bytes; raises `UnpluggedError`."""
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await self._write_all(octets)
        except TimeoutError:
            termios.tcflush(self._descriptor, termios.TCOFLUSH)
        except OSError as error:
            raise UnpluggedError("the port went away") from error

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
