"""Runs the makers' own tools; what they say is shown as they say it."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from firmware_scripts.flash.images import Image


def esptool(images: Sequence[Image], *, chip: str, port: str, baud: int) -> None:
    """Write images into the flash of an ESP; the chip tells a digest of each, and esptool compares it.

    Raises:
        ValueError: esptool is not installed, or did not write everything.
    """
    if importlib.util.find_spec("esptool") is None:
        raise ValueError("esptool is not installed: pip install 'fleet-provisioning[esp]'")
    places = [word for image in images for word in (hex(image.place), str(image.path))]
    connection = ["--chip", chip, "--port", port, "--baud", str(baud)]
    _run([sys.executable, "-m", "esptool", *connection, "write-flash", *places])


def pyocd(path: Path, *, target: str, place: int | None, probe: str | None) -> None:
    """Write one file into a chip over its debug probe; pyocd reads back what it has written.

    Raises:
        ValueError: pyocd is not installed, or did not write everything.
    """
    program = shutil.which("pyocd")
    if program is None:
        raise ValueError("pyocd is not installed: pip install pyocd")
    base = [] if place is None else ["--base-address", hex(place)]
    which = [] if probe is None else ["--uid", probe]
    # Without a probe it would wait for one for ever.
    _run(
        [
            program,
            "flash",
            "--no-wait",
            "--target",
            target,
            *which,
            *base,
            "-O",
            "smart_flash=false",
            str(path),
        ]
    )


def _run(command: Sequence[str]) -> None:
    code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode
    if code:
        raise ValueError(f"{Path(command[0]).name} ended with {code}; nothing says that the device is whole")
