"""The overlay archive: the same bytes each time, readable by tar, with a first-boot script for any sh."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from firmware_scripts.linux.__main__ import main

SCRIPT = Path(__file__).parents[3] / "firmware_scripts/linux/files/first-boot.sh"
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "ash"]) if shutil.which(shell[0])]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    for name in ("trust.pem", "claim.crt", "claim.key"):
        (tmp_path / name).write_text(f"{name}\n")
    claim = f"{tmp_path}/claim.crt,{tmp_path}/claim.key"
    trust = f"{tmp_path}/trust.pem"
    return ["--bootstrap", "fleet.example:8884", "--trust", trust, "--claim", claim, "--id-prefix", "line3-"]


def test_two_builds_are_the_same_bytes(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--output", f"{tmp_path}/one.tar"]) == 0
    for name in ("trust.pem", "claim.crt", "claim.key"):
        os.utime(tmp_path / name, (0, 0))
    assert main([*arguments, "--output", f"{tmp_path}/two.tar"]) == 0
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_tar_reads_the_archive_and_the_claim_key_is_private(arguments: list[str], tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.tar"
    main([*arguments, "--output", str(overlay)])
    listing = subprocess.run(["tar", "-tvf", overlay], capture_output=True, text=True, check=True).stdout
    assert "-rw------- 0/0" in next(line for line in listing.splitlines() if line.endswith("claim.key"))
    assert overlay.stat().st_mode & 0o777 == 0o600
    with tarfile.open(overlay) as tar:
        assert not [name for name in tar.getnames() if "device" in Path(name).name and name.endswith(".key")]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--bootstrap", "no port"),
        ("--id-prefix", "a b"),
        ("--id-prefix", "$(reboot)"),
        ("--claim", "one-file"),
    ],
)
def test_a_bad_value_is_refused_and_nothing_is_written(
    arguments: list[str], tmp_path: Path, option: str, value: str
) -> None:
    arguments[arguments.index(option) + 1] = value
    assert main([*arguments, "--output", f"{tmp_path}/o.tar"]) == 6
    assert not (tmp_path / "o.tar").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_first_boot_enrolls_under_the_machines_own_number(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("BOOTSTRAP=fleet.example:8884\nID_PREFIX=line3-\n")
    (tmp_path / "serial-number").write_bytes(b"10000000abcd\x00")
    agent = tmp_path / "device-agent"
    agent.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    agent.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SETTINGS_DIR": str(tmp_path),
        "DEVICETREE": f"{tmp_path}/serial-number",
    }
    result = subprocess.run([*shell, SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[:7] == [
        *("--state", "/var/lib/device-agent", "enroll", "--mqtt", "fleet.example:8884"),
        *("--device", "line3-10000000abcd"),
    ]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_first_boot_says_what_to_do_without_a_number(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("BOOTSTRAP=fleet.example:8884\nID_PREFIX=\n")
    environment = {
        "PATH": os.environ["PATH"],
        "SETTINGS_DIR": str(tmp_path),
        "DEVICETREE": f"{tmp_path}/none",
        "MACHINE_ID": f"{tmp_path}/none",
    }
    result = subprocess.run([*shell, SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 6
    assert "hint: " in result.stderr
