"""Writes `device-agent.pyz` (PEP 441): one file that runs wherever Python and its cryptography are."""

import io
import time
import zipfile
from pathlib import Path

from firmware_scripts.packages.tree import ROOT, File, agent_files, vendored_files

_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = """\
\"\"\"Starts the agent; the one library that is compiled has to be the system's.\"\"\"

import sys

try:
    import cryptography  # noqa: F401 - only whether it is there
except ImportError:
    sys.exit("error: the Python library cryptography is missing\\nhint: apt-get install python3-cryptography")

from device_agent.cli import main

sys.exit(main())
"""


def build_zipapp(output: Path, *, moment: int) -> Path:
    """Write the archive into a folder and return its path; raises ValueError as `vendored_files` does."""
    files = [
        *agent_files(moment),
        *vendored_files(),
        File(path="__main__.py", content=_MAIN.encode()),
        File(path="licences/device-agent/LICENSE", content=(ROOT / "LICENSE").read_bytes()),
    ]
    path = output / "device-agent.pyz"
    path.write_bytes(_SHEBANG + archive(files, moment=moment))
    path.chmod(0o755)
    return path


def archive(files: list[File], *, moment: int) -> bytes:
    """Return a ZIP archive whose entries are in the order of their paths, all of one time."""
    target, when = io.BytesIO(), time.gmtime(moment)[:6]
    with zipfile.ZipFile(target, "w") as packed:
        for file in sorted(files, key=lambda file: file.path):
            entry = zipfile.ZipInfo(file.path, date_time=when)
            entry.create_system, entry.external_attr = 3, (0o100000 | file.mode) << 16
            packed.writestr(entry, file.content, compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    return target.getvalue()
