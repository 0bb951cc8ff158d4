"""Results in a file that other programs read while it grows: JSON lines, or CSV.

Each batch is one write, on the disk before it counts. A line that a power cut tore is taken away before the
next one is written, and one that is there already is not written again.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fleet.errors import BadInputError
from fleet.files import sync_folder, telling
from fleet.station.telling.book import Job, Kind
from fleet.station.telling.results import Result, columns

_TAIL_BYTES = 256 * 1024
_MODE = 0o640


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A `Courier` into a file; its ending says in which form."""

    path: Path
    is_csv: bool

    @classmethod
    def parse(cls, path: Path) -> Self:
        """Take a path.

        Raises:
            BadInputError: it ends neither in .jsonl nor in .csv, or has no folder.
        """
        if path.suffix not in (".jsonl", ".csv"):
            raise BadInputError(f"results go to a .jsonl or .csv file, not to {path}", hint="results.jsonl")
        if not path.parent.is_dir():
            raise BadInputError(f"there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")
        return cls(path, path.suffix == ".csv")

    @property
    def kind(self) -> Kind:
        return Kind.FILE

    @property
    def at_once(self) -> int:
        return 64

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[str]:
        """Append what is not there yet; raises StorageFullError, BadInputError."""
        await asyncio.to_thread(self._append, jobs)
        return [""] * len(jobs)

    def _append(self, jobs: Sequence[Job]) -> None:
        with telling(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                end, tail = _mended(descriptor)
                lines = [self._line(job) for job in jobs if job.id.encode() not in tail]
                head = [columns()] if self.is_csv and end == 0 else []
                octets = "".join(f"{line}\n" for line in (*head, *lines)).encode()
                _write_whole(descriptor, octets, at=end)
            finally:
                os.close(descriptor)
            sync_folder(self.path.parent)

    def _line(self, job: Job) -> str:
        result = Result.parse(job.body)
        return result.row() if self.is_csv else result.line()


def _mended(descriptor: int) -> tuple[int, bytes]:
    """Cut a torn last line off; return the length of the file and its last lines."""
    length = os.fstat(descriptor).st_size
    begin = max(0, length - _TAIL_BYTES)
    tail = os.pread(descriptor, _TAIL_BYTES, begin)
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        os.ftruncate(descriptor, begin + whole)
    return begin + whole, tail[:whole]


def _write_whole(descriptor: int, octets: bytes, *, at: int) -> None:
    """Write all of it, or leave the file as it was."""
    try:
        written = 0
        while written < len(octets):
            written += os.pwrite(descriptor, octets[written:], at + written)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, at)
        raise
