"""Bytes to a TPM 2.0 and back: the kernel's resource manager, or a TPM simulator over TCP.

One command at a time, one connection for as long as somebody works with it. No library is needed for it.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from device_agent.errors import BadInputError, KeyStoreError

DEFAULT_DEVICE = Path("/dev/tpmrm0")
_MOST = 4096
_HEADER = 10
_SECONDS = 120
"""The slowest TPMs take a minute for an RSA key."""
_DEVICE = re.compile(r"device:(/[\x21-\x7e]{1,200})", re.ASCII)
_SIMULATOR = re.compile(r"swtpm:host=([0-9A-Za-z.:-]{1,253}),port=(\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmPlace:
    """Where a TPM is; written as tpm2-tools name it: `device:/dev/tpmrm0`, `swtpm:host=HOST,port=PORT`."""

    device: Path | None = None
    host: str = ""
    port: int = 0

    def text(self) -> str:
        """Return the place as `parse_tpm_place` takes it."""
        if self.device is not None:
            return f"device:{self.device}"
        return f"swtpm:host={self.host},port={self.port}"


def parse_tpm_place(text: str) -> TpmPlace:
    """Read the place of a TPM; the empty text is the kernel's.

    Raises:
        BadInputError: it is none.
    """
    if not text:
        return TpmPlace(device=DEFAULT_DEVICE)
    if match := _DEVICE.fullmatch(text):
        return TpmPlace(device=Path(match[1]))
    match = _SIMULATOR.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise BadInputError(
            "this is no place of a TPM", hint="such as device:/dev/tpmrm0, or swtpm:host=127.0.0.1,port=2321"
        )
    return TpmPlace(host=match[1], port=int(match[2]))


class Link(Protocol):
    """An open way to a TPM."""

    def transact(self, command: bytes) -> bytes:
        """Send a command and return the whole response; raises `KeyStoreError`."""
        ...


@contextmanager
def opened(place: TpmPlace) -> Iterator[Link]:
    """Open the way to a TPM; raises `KeyStoreError`."""
    if place.device is not None:
        with _opened_device(place.device) as descriptor:
            yield _DeviceLink(descriptor)
    else:
        with _connected(place) as connection:
            yield _SocketLink(connection)


class _DeviceLink:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def transact(self, command: bytes) -> bytes:
        try:
            os.write(self._descriptor, command)
            return os.read(self._descriptor, _MOST)
        except OSError as error:
            raise _lost(error) from error


class _SocketLink:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def transact(self, command: bytes) -> bytes:
        try:
            self._connection.sendall(command)
            head = self._read(_HEADER)
            size = int.from_bytes(head[2:6])
            if not _HEADER <= size <= _MOST:
                raise KeyStoreError("the TPM's response has no size that a response may have")
            return head + self._read(size - _HEADER)
        except OSError as error:
            raise _lost(error) from error

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self._connection.recv(count - len(found))
            if not part:
                raise ConnectionError("it closed the connection")
            found += part
        return found


@contextmanager
def _opened_device(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KeyStoreError(
            f"the TPM {path} cannot be opened: {os.strerror(error.errno or 0).lower()}",
            hint="is there a TPM 2.0, and is this user in the group tss",
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _connected(place: TpmPlace) -> Iterator[socket.socket]:
    try:
        connection = socket.create_connection((place.host, place.port), timeout=_SECONDS)
    except OSError as error:
        raise KeyStoreError(f"the TPM at {place.host}:{place.port} cannot be reached: {error}") from error
    with connection:
        yield connection


def _lost(error: OSError) -> KeyStoreError:
    return KeyStoreError(f"the TPM does not answer: {error}", hint="device-agent doctor")
