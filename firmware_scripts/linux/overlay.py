"""Builds the overlay archive for an image: the same input gives the same bytes, always.

It never holds a device key: each device makes its own at first boot.
"""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path

_FILES = resources.files("firmware_scripts.linux") / "files"
_UNITS = "etc/systemd/system"
_SETTINGS = "etc/device-agent"
_PROGRAMS = "usr/lib/device-agent"


class Init(StrEnum):
    """What starts services on the image."""

    SYSTEMD = "systemd"
    """Debian, Raspberry Pi OS, Yocto."""
    PROCD = "procd"
    """OpenWrt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What all devices of one image share; paths lead to PEM files, the key to the claim's alone."""

    bootstrap: str
    """HOST:PORT of the bootstrap listener."""
    trust: Path
    claim_certificate: Path
    claim_key: Path
    id_prefix: str = ""
    init: Init = Init.SYSTEMD
    agent: Path | None = None
    """The agent as a zipapp; None where the image has it already."""


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
        _packaged("first-boot.sh", path=f"{_PROGRAMS}/first-boot", mode=0o755),
        *_services(batch.init),
    ]
    if batch.agent is not None:
        found.append(Entry(path="usr/bin/device-agent", content=batch.agent.read_bytes(), mode=0o755))
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


def _services(init: Init) -> list[Entry]:
    match init:
        case Init.SYSTEMD:
            return [
                _packaged("device-agent.sysusers", path="usr/lib/sysusers.d/device-agent.conf", mode=0o644),
                _packaged("device-agent.service", path=f"{_UNITS}/device-agent.service", mode=0o644),
                _packaged(
                    "device-agent-enroll.service", path=f"{_UNITS}/device-agent-enroll.service", mode=0o644
                ),
            ]
        case Init.PROCD:
            kept = f"/{_SETTINGS}/\n".encode()
            return [
                _packaged("device-agent.init", path="etc/init.d/device-agent", mode=0o755),
                _packaged("enroll-and-run.sh", path=f"{_PROGRAMS}/enroll-and-run", mode=0o755),
                Entry(path="lib/upgrade/keep.d/device-agent", content=kept, mode=0o644),
            ]


def _packaged(name: str, *, path: str, mode: int) -> Entry:
    return Entry(path=path, content=(_FILES / name).read_bytes(), mode=mode)
