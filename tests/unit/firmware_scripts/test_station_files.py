"""The files of a factory station: the same each time, and what udev and systemd read them as."""

import re
import subprocess
from pathlib import Path

import pytest

from firmware_scripts.station.__main__ import main

BASE = ("--station", "line3", "--server", "https://fleet.example.org:8443", "--usb", "0403:6001")


def written(folder: Path, *more: str) -> dict[str, str]:
    assert main((*BASE, "--output", str(folder), *more)) == 0
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_write_the_same_files(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a"), written(tmp_path / "b")
    assert first == second
    assert set(first) == {
        "70-fleet-station.rules",
        "fleet-station.service",
        "labels/device.txt",
        "labels/device.zpl",
        "labels/device.png.txt",
    }


def test_each_adapter_has_a_rule_of_its_own(tmp_path: Path) -> None:
    rules = written(tmp_path, "--usb", "10c4:ea60:A1")["70-fleet-station.rules"]
    lines = [line for line in rules.splitlines() if line.startswith('SUBSYSTEM=="tty"')]
    assert len(lines) == 2
    for line in lines:
        # udev(7): KEY OP "value", separated by commas.
        assert all(re.fullmatch(r'[A-Z]+(\{[^}]+\})?(==|=|\+=)"[^"]*"', part) for part in line.split(", "))
        assert 'ENV{ID_MM_DEVICE_IGNORE}="1"' in line
    assert 'ATTRS{serial}=="A1"' in lines[1]


def test_the_unit_runs_the_line_with_what_was_asked_for(tmp_path: Path) -> None:
    unit = written(tmp_path, "--", "--prefix", "spring-", "--results", "results.jsonl")[
        "fleet-station.service"
    ]
    assert "station run --headless --usb 0403:6001 --prefix spring- --results results.jsonl\n" in unit


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    written(tmp_path)
    unit = tmp_path / "fleet-station.service"
    unit.write_text(unit.read_text().replace("/usr/bin/fleet", "/bin/true"))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", unit],
        check=False,
        capture_output=True,
        text=True,
    )
    own = [line for line in said.stderr.splitlines() if "fleet-station" in line and "not found" not in line]
    assert own == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("--station", "Line 3"),
        ("--server", "http://fleet.example.org"),
        ("--usb", "0403"),
        ("--usb", '0403:6001:A"1'),
        ("--", "--prefix", "a b"),
        ("--", "--jig", "x;rm"),
    ],
)
def test_what_would_mean_something_else_there_is_refused(
    tmp_path: Path, wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main((*BASE, "--output", str(tmp_path), *wrong)) == 6
    assert "error:" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
