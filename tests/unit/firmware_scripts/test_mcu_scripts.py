"""Passports of units and signed images, read back by who did not write them."""

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from device_agent.keys.pkcs11 import TokenKeyStore
from device_agent.keys.uri import parse_token_uri
from device_agent.wire.objects import encode_certificates
from device_agent.wire.problems import MalformedMessageError
from firmware_scripts.mcu.__main__ import main
from firmware_scripts.mcu.images import flat_image
from firmware_scripts.mcu.passport import FLASH_BYTES, ROOM, Passport, flash_image
from tests.pki import key_pem
from tests.tokens import SoftHsm

UNIT = Passport(hardware_id="unit-0001", model="m4", anchors=(b"\x30\x01\x00",))
SIGN = ("--version", "1.2.3", "--slot-size", "0x10000")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "boot.pem"
    path.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "plain.bin"
    path.write_bytes(bytes(range(256)) * 16)
    return path


def imgtool(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "imgtool.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_passport_is_read_back_as_it_was_written() -> None:
    assert Passport.read(flash_image(UNIT)) == UNIT
    assert flash_image(UNIT) == flash_image(UNIT)


def test_a_passport_is_a_cbor_map_behind_its_head() -> None:
    image = UNIT.image()
    assert len(image) == ROOM
    found = cbor2.loads(image[64:])
    assert found == {"hw": "unit-0001", "md": "m4", "an": encode_certificates(UNIT.anchors)}
    assert flash_image(UNIT)[ROOM:] == b"\xff" * (FLASH_BYTES - ROOM)


@pytest.mark.parametrize("hardware_id", ["", "a b", "x" * 65, "ü"])
def test_a_unit_without_a_right_number_gets_no_passport(hardware_id: str) -> None:
    with pytest.raises(MalformedMessageError):
        Passport(hardware_id=hardware_id, model="m4").image()


@given(st.binary(max_size=300), st.integers(0, ROOM - 1), st.integers(0, 7))
def test_a_bent_passport_is_refused_or_the_same(tail: bytes, at: int, bit: int) -> None:
    bent = bytearray(UNIT.image())
    bent[at] ^= 1 << bit
    for image in (bytes(bent), tail):
        try:
            assert Passport.read(image) == UNIT
        except MalformedMessageError:
            continue


def test_a_signed_image_is_what_imgtool_itself_takes(key: Path, image: Path, tmp_path: Path) -> None:
    signed = [tmp_path / "signed-1.bin", tmp_path / "signed-2.bin"]
    for path in signed:
        assert main(["sign", "--key", str(key), *SIGN, str(image), "--output", str(path)]) == 0
    done = imgtool("verify", "--key", key, signed[0])
    assert "Image was correctly validated" in done.stdout
    assert "1.2.3+0" in done.stdout
    assert signed[0].read_bytes() == signed[1].read_bytes()
    assert image.read_bytes() in signed[0].read_bytes()


def test_an_image_that_was_changed_or_is_anothers_is_refused(
    key: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed = tmp_path / "signed.bin"
    main(["sign", "--key", str(key), *SIGN, str(image), "--output", str(signed)])
    other = tmp_path / "other.pem"
    other.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))
    assert main(["verify", "--key", str(other), str(signed)]) == 6
    octets = bytearray(signed.read_bytes())
    octets[0x300] ^= 1
    signed.write_bytes(octets)
    assert main(["verify", "--key", str(key), str(signed)]) == 6
    assert "imgtool" in capsys.readouterr().err


@pytest.mark.needs("softhsm2-util")
def test_a_key_in_a_token_signs_and_never_leaves_it(image: Path, tmp_path: Path) -> None:
    with SoftHsm.at(tmp_path / "hsm") as hsm:
        uri = replace(parse_token_uri(hsm.token().uri), object="boot")
        keys = TokenKeyStore(uri, refused_pins=tmp_path / "refused")
        keys.create("made")
        place, signed = keys.reference("made"), tmp_path / "signed.bin"
        assert main(["sign", "--key", place, *SIGN, str(image), "--output", str(signed)]) == 0
        assert main(["verify", "--key", place, str(signed)]) == 0
        assert main(["verify", "--key", hsm.token().uri, str(signed)]) == 6


def test_an_image_that_does_not_fit_its_slot_is_refused_in_words(
    key: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--version", "1.0.0", "--slot-size", "0x800", "--output", str(tmp_path / "out.bin"))
    assert main(["sign", "--key", str(key), *words, str(image)]) == 6
    assert capsys.readouterr().err.startswith("error: imgtool: ")
    assert not (tmp_path / "out.bin").exists()


def test_a_key_of_another_kind_is_refused(tmp_path: Path, image: Path) -> None:
    key = tmp_path / "long.pem"
    key.write_bytes(key_pem(ec.generate_private_key(ec.SECP384R1())))
    assert main(["sign", "--key", str(key), *SIGN, str(image), "--output", str(tmp_path / "x")]) == 6


def elf(*segments: tuple[int, bytes]) -> bytes:
    """Return an ELF file of these segments, by physical address."""
    head = 52 + 32 * len(segments)
    table, body = b"", b""
    for address, content in segments:
        place = head + len(body)
        table += struct.pack("<8I", 1, place, 0xDEAD0000, address, len(content), len(content), 5, 4)
        body += content
    start = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    rest = struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 0, 52, 0, 0, 52, 32, len(segments), 40, 0, 0)
    return start + rest + table + body


def test_an_elf_file_is_laid_out_as_it_lies_in_flash(tmp_path: Path) -> None:
    path = tmp_path / "fw.elf"
    path.write_bytes(elf((0x108, b"later"), (0x100, b"first")))
    assert flat_image(path) == b"first\xff\xff\xfflater"


def test_what_is_no_elf_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fw.elf"
    path.write_bytes(b"MZ")
    with pytest.raises(ValueError, match="no ELF file"):
        flat_image(path)
