"""Builds the guard, our Mosquitto plugin, from the C sources beside this file.

It needs a C compiler and the headers of Mosquitto and OpenSSL; it never downloads anything.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fleet.errors import FleetError
from fleet.files import make_folder, sync_folder, telling

SOURCES = Path(__file__).parent
LIBRARY = "fleet_guard.so"
PACKAGES = "gcc libc6-dev mosquitto mosquitto-dev libmosquitto-dev libssl-dev"
_BUILD_SECONDS = 120
_FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2",
)
_PROBE = '#include "guard.h"\n'


def missing() -> str | None:
    """Return what the build lacks, or None if it can be done."""
    compiler = _compiler()
    if compiler is None:
        return "there is no C compiler"
    try:
        probe = subprocess.run(
            [compiler, "-fsyntax-only", f"-I{SOURCES}", "-x", "c", "-"],
            input=_PROBE.encode(),
            capture_output=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return "the C compiler does not run"
    return None if probe.returncode == 0 else "the headers of Mosquitto or OpenSSL are not installed"


def build(folder: Path, *, flags: Sequence[str] = ()) -> Path:
    """Compile the guard into a folder, unless it holds the same build already; return the library.

    Raises:
        FleetError: something is missing, or the compiler says no; the hint names the packages.
    """
    library = folder / LIBRARY
    mark = folder / f"{LIBRARY}.of"
    wanted = _fingerprint(flags)
    if library.is_file() and mark.is_file() and mark.read_text() == wanted:
        return library
    reason = missing()
    if reason is not None:
        raise FleetError(f"the broker's guard cannot be built: {reason}", hint=f"apt-get install {PACKAGES}")
    make_folder(folder)
    _compile(library, flags=flags)
    with telling(mark):
        mark.write_text(wanted)
    return library


def _compile(library: Path, *, flags: Sequence[str]) -> None:
    with telling(library), tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        made = Path(scratch) / LIBRARY
        sources = [str(source) for source in sorted(SOURCES.glob("*.c"))]
        command = [_compiler() or "cc", *_FLAGS, *flags, "-shared", "-o", str(made), *sources, "-lcrypto"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_BUILD_SECONDS, check=False)
        except subprocess.SubprocessError as error:
            raise FleetError("the broker's guard cannot be built: the compiler hangs") from error
        if done.returncode != 0:
            first = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise FleetError(
                f"the broker's guard cannot be built: {first}", hint=f"apt-get install {PACKAGES}"
            )
        made.chmod(0o644)
        made.replace(library)  # a broker that runs keeps the file that it has open
        sync_folder(library.parent)


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "")) or shutil.which("cc") or shutil.which("gcc")


def _fingerprint(flags: Sequence[str]) -> str:
    """Return what a build depends on: sources, flags, and the headers that it was compiled against."""
    digest = hashlib.sha256("\0".join([*_FLAGS, *flags]).encode())
    headers = (Path("/usr/include/mosquitto_broker.h"), Path("/usr/include/mosquitto.h"))
    for path in [*sorted(SOURCES.glob("*.[ch]")), *headers]:
        digest.update(path.name.encode() + b"\0" + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()
