"""The front of the writing tools: files are judged first, and what is written is what others read."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_scripts.flash.__main__ import main
from firmware_scripts.flash.images import Image, parse_images, parse_place
from firmware_scripts.flash.uf2 import FAMILIES, INFO, check, uf2

PIECE = 256


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A folder that looks like the drive of a bootloader."""
    folder = tmp_path / "RPI-RP2"
    folder.mkdir()
    (folder / INFO).write_text("UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\n")
    return folder


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.bin"
    path.write_bytes(os.urandom(5 * PIECE))
    return path


def test_uf2_is_the_same_as_that_of_another_tool(firmware: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.uf2"
    chunks = ["--md5-disable", "--chunk-size", str(PIECE), "--output", theirs, "0x10000", firmware]
    command = [sys.executable, "-m", "esptool", "--chip", "esp32s3", "merge-bin", "--format", "uf2", *chunks]
    subprocess.run(command, check=True, capture_output=True)

    image = Image(place=0x10000, path=firmware, octets=firmware.read_bytes())

    assert uf2(image, family=FAMILIES["esp32s3"]) == theirs.read_bytes()


@given(octets=st.binary(min_size=1, max_size=4 * PIECE), place=st.integers(0, 1 << 20))
def test_every_block_is_of_the_one_length_that_bootloaders_take(octets: bytes, place: int) -> None:
    blocks = uf2(Image(place=place, path=Path("f"), octets=octets), family=FAMILIES["rp2040"])
    check(blocks, path=Path("f"))
    assert {blocks[at + 16 : at + 20] for at in range(0, len(blocks), 512)} == {PIECE.to_bytes(4, "little")}


@given(st.binary(max_size=2048))
def test_what_is_no_uf2_is_refused_in_words(octets: bytes) -> None:
    if octets:
        with pytest.raises(ValueError, match="UF2"):
            check(octets, path=Path("f"))


def test_a_file_that_lost_blocks_is_refused(drive: Path, firmware: Path, tmp_path: Path) -> None:
    whole = uf2(Image(place=0, path=firmware, octets=firmware.read_bytes()), family=FAMILIES["rp2040"])
    cut = tmp_path / "cut.uf2"
    cut.write_bytes(whole[512:])
    assert main(["uf2", "--drive", str(drive), str(cut)]) == 6
    assert [path.name for path in drive.iterdir()] == [INFO]


def test_firmware_is_copied_to_the_drive(drive: Path, firmware: Path) -> None:
    at = ["--family", "rp2040", "--base", "0x10000000"]
    assert main(["uf2", "--drive", str(drive), *at, str(firmware)]) == 0

    image = Image(place=0x10000000, path=firmware, octets=firmware.read_bytes())
    assert (drive / "FIRMWARE.UF2").read_bytes() == uf2(image, family=FAMILIES["rp2040"])


def test_a_folder_that_is_no_bootloaders_drive_is_left_alone(
    firmware: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["uf2", "--drive", str(tmp_path), "--family", "rp2040", "--base", "0", str(firmware)]) == 6
    assert "press the board's reset twice" in capsys.readouterr().err
    assert not (tmp_path / "FIRMWARE.UF2").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--family", "rp2040"], "a .bin needs --family and --base"),
        (["--base", "0x0"], "a .bin needs --family and --base"),
    ],
)
def test_a_place_is_never_guessed(
    options: list[str], said: str, drive: Path, firmware: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["uf2", "--drive", str(drive), *options, str(firmware)]) == 6
    assert said in capsys.readouterr().err


def test_images_are_written_in_the_order_of_their_places(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 16)
    (tmp_path / "b").write_bytes(b"b" * 16)
    images = parse_images([f"0x20={tmp_path}/b", f"16={tmp_path}/a"])
    assert [(image.place, image.end) for image in images] == [(16, 32), (32, 48)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{}/a"], "must be PLACE=FILE"),
        (["0x0="], "must be PLACE=FILE"),
        (["here={}/a"], "no address"),
        (["0x-1={}/a"], "no address"),
        (["0x100000000={}/a"], "no address"),
        (["0xFFFFFFFF={}/a"], "too large"),
        (["0x0={}/empty"], "empty"),
        (["0x0={}/a", "0x8={}/a"], "ends at 0x10, over"),
    ],
)
def test_bad_images_are_refused_before_a_device_is_touched(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(b"a" * 16)
    (tmp_path / "empty").touch()
    assert main(["esp", "--port", "/dev/null", *[word.format(tmp_path) for word in words]]) == 6
    assert said in capsys.readouterr().err


@given(st.text(max_size=20))
def test_a_place_is_a_number_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= parse_place(text) < 1 << 32


def test_a_port_with_nobody_there_is_told_of(firmware: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["esp", "--port", "/dev/null", f"0xD000={firmware}"]) == 6
    assert "nothing says that the device is whole" in capfd.readouterr().err


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """A program that stands for pyocd, which can do nothing without a probe: it keeps what it was told."""
    program = tmp_path / "bin/pyocd"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" > {tmp_path}/told\n')
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return (tmp_path / "told").read_text


def test_a_debug_probe_gets_the_place_of_a_bin_alone(
    probe: Callable[[], str], firmware: Path, tmp_path: Path
) -> None:
    assert main(["probe", "--target", "nrf52840", "--base", "0x27000", "--probe", "17", str(firmware)]) == 0
    assert "flash --no-wait --target nrf52840 --uid 17 --base-address 0x27000" in probe()
    (tmp_path / "app.hex").write_text(":00000001FF\n")
    assert main(["probe", "--target", "nrf52840", str(tmp_path / "app.hex")]) == 0
    assert "--base-address" not in probe()
    assert main(["probe", "--target", "nrf52840", str(firmware)]) == 6


def test_a_tool_that_is_missing_is_named(
    firmware: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["probe", "--target", "nrf52840", "--base", "0", str(firmware)]) == 6
    assert "pip install pyocd" in capsys.readouterr().err
