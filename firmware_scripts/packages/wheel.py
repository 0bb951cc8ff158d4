"""Builds the agent's own wheel, `fleet-device-agent`: without the server, by setuptools."""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from firmware_scripts.packages.tree import ROOT, File, agent_files

NAME = "fleet-device-agent"
_BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def version() -> str:
    """Return the version of the project."""
    return _project()["version"]


def build_wheel(output: Path, *, moment: int) -> Path:
    """Write the wheel into a folder and return its path; raises ValueError where setuptools fails."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (*agent_files(moment), _metadata(), _licence()):
            file.write(Path(folder))
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment)}
        built = subprocess.run(
            [sys.executable, "-c", _BUILD, output.absolute()],
            cwd=folder, env=environment, umask=0o022, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if built.returncode:
        raise ValueError(f"setuptools could not build the wheel: {built.stderr.strip().splitlines()[-1:]}")
    return output / f"{NAME.replace('-', '_')}-{version()}-py3-none-any.whl"


def _metadata() -> File:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needs, serial = project["project"]["dependencies"], project["project"]["optional-dependencies"]["serial"]
    text = f"""\
[build-system]
requires = {project["build-system"]["requires"]}
build-backend = "setuptools.build_meta"

[project]
name = "{NAME}"
version = "{version()}"
description = "Keeps a device's certificate, and the key in its hardware."
requires-python = "{project["project"]["requires-python"]}"
license = "Apache-2.0"
license-files = ["LICENSE"]
dependencies = {needs}
optional-dependencies = {{serial = {serial}}}
scripts = {{device-agent = "device_agent.cli:main"}}

[tool.setuptools.packages.find]
include = ["device_agent*"]

[tool.setuptools.package-data]
device_agent = ["py.typed"]
"""
    return File(path="pyproject.toml", content=text.encode())


def _project() -> dict[str, str]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def _licence() -> File:
    return File(path="LICENSE", content=(ROOT / "LICENSE").read_bytes())
