"""Builds the overlay archive for an image: the same input gives the same bytes, always.

It never holds a device key: each device makes its own at first boot.
"""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

_FILES = resources.files("firmware_scripts.linux") / "files"
_UNITS = "etc/systemd/system"
_SETTINGS = "etc/device-agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What all devices of one image share; paths lead to PEM files, the key to the claim's alone."""

    bootstrap: str
    """HOST:PORT of the bootstrap listener."""
    trust: Path
    claim_certificate: Path
    claim_key: Path
    id_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of the archive."""

    path: str
    content: bytes
    mode: int


def entries(batch: Batch) -> list[Entry]:
    """Return the files of the overlay, in the order of their paths.

    Raises:
        OSError: one of the batch's files cannot be read.
    """
    settings = f"BOOTSTRAP={batch.bootstrap}\nID_PREFIX={batch.id_prefix}\n"
    found = [
        Entry(path=f"{_SETTINGS}/settings", content=settings.encode(), mode=0o644),
        Entry(path=f"{_SETTINGS}/trust.pem", content=batch.trust.read_bytes(), mode=0o644),
        Entry(path=f"{_SETTINGS}/claim.crt", content=batch.claim_certificate.read_bytes(), mode=0o644),
        Entry(path=f"{_SETTINGS}/claim.key", content=batch.claim_key.read_bytes(), mode=0o600),
        _packaged("first-boot.sh", path="usr/lib/device-agent/first-boot", mode=0o755),
        _packaged("device-agent.service", path=f"{_UNITS}/device-agent.service", mode=0o644),
        _packaged("device-agent-enroll.service", path=f"{_UNITS}/device-agent-enroll.service", mode=0o644),
    ]
    return sorted(found, key=lambda entry: entry.path)


def archive(files: Iterable[Entry]) -> bytes:
    """Return a tar archive (POSIX.1-1988 ustar) with no time, owner or order of its own."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in files:
            info = tarfile.TarInfo(file.path)
            info.size = len(file.content)
            info.mode = file.mode
            tar.addfile(info, io.BytesIO(file.content))
    return target.getvalue()


def _packaged(name: str, *, path: str, mode: int) -> Entry:
    return Entry(path=path, content=(_FILES / name).read_bytes(), mode=mode)
