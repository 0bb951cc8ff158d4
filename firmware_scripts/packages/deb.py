"""Builds the Debian package by dpkg-deb alone: for every architecture, the same bytes each time.

A private folder under /usr/share holds the modules, so that no other program's libraries are shadowed.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from pathlib import Path

from firmware_scripts.packages.tree import ROOT, File, agent_files, vendored_files
from firmware_scripts.packages.wheel import version

_OWN = resources.files("firmware_scripts.packages") / "debian"
_UNITS = resources.files("firmware_scripts.linux") / "files"
_DOCS = "usr/share/doc/device-agent"
_DROP_INS = ("tpm.conf", "usb-token.conf")
_PRIVATE = "usr/share/device-agent"
_SYSTEMD = "usr/lib/systemd/system"
_SCRIPTS = ("postinst", "prerm", "postrm")


def build_deb(output: Path, *, moment: int, release: str = "") -> Path:
    """Write the package into a folder and return its path; `release` is put behind the version.

    Raises:
        ValueError: dpkg-deb is not there, or fails.
    """
    path = output / f"device-agent_{version()}{release}_all.deb"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        payload = _payload(moment)
        for file in (*payload, *_control(payload, f"{version()}{release}")):
            file.write(root)
        for place in (root, *root.rglob("*")):
            if place.is_dir():
                place.chmod(0o755)
            os.utime(place, (moment, moment), follow_symlinks=False)
        _pack(root, path, moment)
    return path


def _pack(root: Path, path: Path, moment: int) -> None:
    # With more than one thread, xz's bytes depend on the machine.
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(root), str(path)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment)}
    try:
        built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ValueError("dpkg-deb is missing: apt-get install dpkg") from error
    if built.returncode:
        raise ValueError(f"dpkg-deb failed: {built.stderr.strip()}")


def _payload(moment: int) -> list[File]:
    files = [*agent_files(moment), *vendored_files()]
    licences = [file for file in files if _is_licence(file)]
    return [
        *(replace(file, path=f"{_PRIVATE}/{file.path}") for file in files if file not in licences),
        File(path="usr/bin/device-agent", content=(_OWN / "launcher").read_bytes(), mode=0o755),
        File(path="etc/device-agent/settings", content=(_OWN / "settings").read_bytes()),
        _unit("first-boot.sh", path="usr/lib/device-agent/first-boot", mode=0o755),
        _unit("device-agent.service", path=f"{_SYSTEMD}/device-agent.service"),
        _unit("device-agent-enroll.service", path=f"{_SYSTEMD}/device-agent-enroll.service"),
        *(_unit(name, path=f"{_DOCS}/examples/{name}") for name in _DROP_INS),
        File(path=f"{_DOCS}/copyright", content=_copyright(licences)),
    ]


def _control(payload: Iterable[File], version: str) -> list[File]:
    size = sum(len(file.content) for file in payload) // 1024 + 1
    control = (_OWN / "control").read_text().format(version=version, size=size)
    sums = "".join(f"{hashlib.md5(file.content).hexdigest()}  {file.path}\n" for file in payload)  # noqa: S324 - deb(5)
    return [
        File(path="DEBIAN/control", content=control.encode()),
        File(path="DEBIAN/conffiles", content=(_OWN / "conffiles").read_bytes()),
        File(path="DEBIAN/md5sums", content=sums.encode()),
        *(File(path=f"DEBIAN/{name}", content=(_OWN / name).read_bytes(), mode=0o755) for name in _SCRIPTS),
    ]


def _unit(name: str, *, path: str, mode: int = 0o644) -> File:
    return File(path=path, content=(_UNITS / name).read_bytes(), mode=mode)


def _copyright(licences: Iterable[File]) -> bytes:
    """Return all licences one after the other, each under the name of what it is for."""
    own = File(path="licences/device-agent/LICENSE", content=(ROOT / "LICENSE").read_bytes())
    parts = (
        f"== {file.path.removeprefix('licences/')}\n\n".encode() + file.content + b"\n"
        for file in (own, *licences)
    )
    return b"".join(parts)


def _is_licence(file: File) -> bool:
    return file.path.startswith("licences/")
