"""The overlay archive: the same bytes each time, readable by tar, with a first-boot script for any sh."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from firmware_scripts.linux.__main__ import main

FILES = Path(__file__).parents[3] / "firmware_scripts/linux/files"
SCRIPT = FILES / "first-boot.sh"
KINDS = {"trust.pem": "CERTIFICATE", "claim.crt": "CERTIFICATE", "claim.key": "PRIVATE KEY"}
SHELLS = [["dash"], ["bash", "--posix"], pytest.param(["busybox", "ash"], marks=pytest.mark.needs("busybox"))]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    for name, label in KINDS.items():
        (tmp_path / name).write_text(f"-----BEGIN {label}-----\n")
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


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_refused_by_its_name(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    wrong = "CERTIFICATE" if KINDS[name] == "PRIVATE KEY" else "PRIVATE KEY"
    (tmp_path / name).write_text(f"-----BEGIN {wrong}-----\n")
    assert main([*arguments, "--output", f"{tmp_path}/o.tar"]) == 6
    assert name in capsys.readouterr().err
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


PROCD = """
procd_open_instance() { echo instance; }
procd_set_param() { echo "$@"; }
procd_close_instance() { echo end; }
. "$1"
start_service
"""
"""What OpenWrt's /etc/rc.common does with an init script, as far as ours goes."""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_openwrt_starts_one_process_and_keeps_it(shell: list[str]) -> None:
    command = [*shell, "-eu", "-c", PROCD, "rc.common", FILES / "device-agent.init"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0] == "instance"
    assert told[-1] == "end"
    assert "command /usr/lib/device-agent/enroll-and-run" in told
    assert "respawn 3600 30 0" in told


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize("enrolled", [True, False])
def test_a_machine_enrolls_once_and_then_stays(shell: list[str], enrolled: bool, tmp_path: Path) -> None:
    for name in ("device-agent", "first-boot"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    if enrolled:
        (tmp_path / "current").mkdir()
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "STATE_DIR": str(tmp_path),
        "FIRST_BOOT": f"{tmp_path}/first-boot",
    }
    command = [*shell, FILES / "enroll-and-run.sh"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    stays = f"device-agent --state {tmp_path} run"
    assert told.splitlines() == ([stays] if enrolled else ["first-boot", stays])


def test_an_image_for_openwrt_holds_the_agent_and_keeps_its_state(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "agent.pyz").write_bytes(b"#!/usr/bin/env python3\nPK")
    overlay = tmp_path / "o.tar"
    given = ["--init", "procd", "--agent", f"{tmp_path}/agent.pyz", "--output", str(overlay)]
    assert main([*arguments, *given]) == 0
    with tarfile.open(overlay) as tar:
        modes = {member.name: member.mode for member in tar.getmembers()}
    assert modes["usr/bin/device-agent"] == modes["etc/init.d/device-agent"] == 0o755
    assert "lib/upgrade/keep.d/device-agent" in modes
    assert not [name for name in modes if "systemd" in name]
