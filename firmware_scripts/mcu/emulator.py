"""Runs the firmware in QEMU: its flash is a file, its station line a serial port or a socket."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "qemu-system-arm"
_MACHINE = "mps2-an386"
_PSRAM_BYTES = 16 * 1024 * 1024
"""The board's PSRAM, which stands for the flash; the file is sparse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One emulated unit. `flash` stays when the power goes; `folder` is for what QEMU needs beside it."""

    elf: Path
    flash: Path
    folder: Path

    def command(self, line: str) -> list[str]:
        """Return the command line; `line` is a chardev of QEMU, such as `serial,path=/dev/ttyUSB0`."""
        return [
            *(shutil.which(PROGRAM) or PROGRAM, "-M", f"{_MACHINE},memory-backend=flash"),
            *("-object", f"memory-backend-file,id=flash,mem-path={self.flash},share=on,size={_PSRAM_BYTES}"),
            *(
                "-display",
                "none",
                "-monitor",
                "none",
                "-nodefaults",
                "-nic",
                "none",
                "-kernel",
                str(self.elf),
            ),
            *("-chardev", f"{line},id=line", "-serial", "chardev:line"),
            # QEMU emulates no random number generator for this board: a UART brings the host's.
            *("-chardev", f"pipe,path={self.folder / 'entropy'},id=entropy", "-serial", "chardev:entropy"),
        ]

    def prepare(self, image: bytes) -> None:
        """Program the flash of a new unit, and lay out what QEMU needs beside it."""
        self.flash.write_bytes(image)
        self.widen()
        self.lay_out()

    def widen(self) -> None:
        """Give the flash file the size that QEMU maps; what it holds stays."""
        with self.flash.open("r+b") as file:
            file.truncate(_PSRAM_BYTES)

    def lay_out(self) -> None:
        """Lay out what QEMU needs beside the flash: the two ends of its entropy pipe."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, end in (("entropy.in", "/dev/urandom"), ("entropy.out", "/dev/null")):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(end)


@contextmanager
def powered(board: Board, line: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run the unit; at the end its power is cut, which costs it nothing."""
    board.lay_out()
    with (board.folder / "qemu.log").open("ab") as log:
        process = subprocess.Popen(
            board.command(line), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
