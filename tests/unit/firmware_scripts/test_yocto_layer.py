"""The Yocto layer: the same files each time; its recipe installs the agent, its units and its settings."""

import re
import subprocess
from pathlib import Path

import pytest

from firmware_scripts.linux.__main__ import main as make_overlay
from firmware_scripts.linux.yocto import main

_SOURCES = {"trust.pem": "CERTIFICATE", "claim.crt": "CERTIFICATE", "claim.key": "PRIVATE KEY"}
_PLACES = {
    "bindir": "/usr/bin",
    "sysconfdir": "/etc",
    "systemd_system_unitdir": "/usr/lib/systemd/system",
}


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """The options of a layer: an agent and an overlay."""
    for name, label in _SOURCES.items():
        (tmp_path / name).write_text(f"-----BEGIN {label}-----\n")
    (tmp_path / "agent.pyz").write_bytes(b"#!/usr/bin/env python3\nPK")
    given = ["--bootstrap", "fleet.example:8884", "--trust", f"{tmp_path}/trust.pem"]
    claim = ["--claim", f"{tmp_path}/claim.crt,{tmp_path}/claim.key"]
    assert make_overlay([*given, *claim, "--output", f"{tmp_path}/overlay.tar"]) == 0
    return ["--agent", f"{tmp_path}/agent.pyz", "--overlay", f"{tmp_path}/overlay.tar"]


def layer(folder: Path, sources: list[str]) -> dict[str, bytes]:
    assert main([*sources, "--output", str(folder)]) == 0
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_layers_are_the_same_and_for_their_owner_alone(sources: list[str], tmp_path: Path) -> None:
    assert layer(tmp_path / "one", sources) == layer(tmp_path / "two", sources)
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700


def test_a_layer_that_is_there_is_left_alone(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer(tmp_path / "layer", sources)
    assert main([*sources, "--output", f"{tmp_path}/layer"]) == 6
    assert "exists" in capsys.readouterr().err


def test_the_recipe_installs_the_agent_and_its_units(sources: list[str], tmp_path: Path) -> None:
    """Its shell function, run as BitBake runs it once it has put in what stands in ${}."""
    files = layer(tmp_path / "layer", sources)
    (recipe,) = (text.decode() for name, text in files.items() if name.endswith(".bb"))
    (body,) = re.findall(r"^do_install\(\) \{\n(.*?)^\}", recipe, re.MULTILINE | re.DOTALL)
    image = tmp_path / "image"
    image.mkdir()
    places = {"D": str(image), "DEVICE_AGENT_FILES": f"{tmp_path}/layer/recipes-core/device-agent/files"}
    script = re.sub(r"\$\{(\w+)\}", lambda name: (places | _PLACES)[name[1]], body)

    subprocess.run(["sh", "-euc", script], check=True)

    installed = {str(path.relative_to(image)): path.stat().st_mode & 0o777 for path in image.rglob("*")}
    assert installed["usr/bin/device-agent"] == installed["usr/lib/device-agent/first-boot"] == 0o755
    assert installed["etc/device-agent/claim.key"] == 0o600
    assert "usr/lib/systemd/system/device-agent.service" in installed
    assert not [name for name in installed if name.startswith("etc/systemd/system/device")]


def test_the_recipe_says_what_it_brings_and_whom_it_needs(sources: list[str], tmp_path: Path) -> None:
    files = layer(tmp_path / "layer", sources)
    (recipe,) = (text.decode() for name, text in files.items() if name.endswith(".bb"))
    for said in ("device-agent.service device-agent-enroll.service", "python3-cryptography", "--system"):
        assert said in recipe
