"""Images for ESP32s: read back by other tools, the same in each run, and registered by the printed list."""

import base64
import csv
import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key
from esp_secure_cert import tlv_format, tlv_parser
from hypothesis import given
from hypothesis import strategies as st

from firmware_scripts.esp.__main__ import main
from firmware_scripts.esp.batch import read_units
from firmware_scripts.esp.nvs import SIZE, nvs_image
from fleet.model import ClientKind
from fleet.ra.people.roster_rows import ImportFormat, Roster, rows_of
from tests.pki import pem_of, self_signed

_ROOT = self_signed("Test Root")
_PAGE, _ENTRY, _FIRST_ENTRY = 4096, 32, 64
_ACTIVE_PAGES = {0xFFFFFFFE, 0xFFFFFFFC}
CA_CERT, PRIVATE_KEY = (
    int(tlv_format.tlv_type_t.ESP_SECURE_CERT_CA_CERT_TLV),
    int(tlv_format.tlv_type_t.ESP_SECURE_CERT_PRIV_KEY_TLV),
)
_NAMESPACES, _STRING, _PRIMITIVE = 0, 0x21, 0x01


def secure_cert_entries(image: bytes) -> dict[int, bytes]:
    """Read a partition by Espressif's own parser: what it holds, by type."""
    held: dict[int, bytes] = {}
    at = 0
    while image[at] != 0xFF:
        header, size = tlv_parser.parse_tlv_header(image, at)
        end = at + tlv_parser.get_tlv_total_length(header)
        footer, _ = tlv_parser.parse_tlv_footer(image, end - 4)
        assert tlv_parser.verify_tlv_integrity(header, image[at:end], footer)[0]
        held[header["type"]] = image[at + size :][: header["length"]]
        at = end
    return held


def nvs_texts(image: bytes) -> dict[str, dict[str, str]]:
    """Read an NVS partition by its description in ESP-IDF's guide: texts by name, by namespace."""
    namespaces: dict[int, str] = {}
    texts: dict[str, dict[str, str]] = {}
    for namespace, kind, name, data in _entries(image):
        if kind == _PRIMITIVE and namespace == _NAMESPACES:
            namespaces[data[0]] = name
            texts[name] = {}
        elif kind == _STRING:
            texts[namespaces[namespace]][name] = data.rstrip(b"\0").decode()
    return texts


def _entries(image: bytes) -> Iterator[tuple[int, int, str, bytes]]:
    for start in range(0, len(image), _PAGE):
        page = image[start : start + _PAGE]
        if int.from_bytes(page[:4], "little") not in _ACTIVE_PAGES:
            continue
        at = _FIRST_ENTRY
        while at < _PAGE and page[at] != 0xFF:
            namespace, kind, span = page[at], page[at + 1], page[at + 2]
            name = page[at + 8 : at + 24].rstrip(b"\0").decode()
            data = page[at + 24 : at + 32]
            if kind == _STRING:
                (length,) = struct.unpack_from("<H", data)
                data = page[at + _ENTRY :][:length]
            yield namespace, kind, name, data
            at += span * _ENTRY


@pytest.fixture
def batch(tmp_path: Path) -> list[str]:
    """The options of a batch of two devices."""
    (tmp_path / "devices.csv").write_text(
        "device_id,hardware\ne-1,24:6f:28:aa:bb:01\ne-2,24:6f:28:aa:bb:02\n"
    )
    (tmp_path / "trust.pem").write_bytes(pem_of(_ROOT.certificate))
    given = {"--devices": "devices.csv", "--trust": "trust.pem", "--output": "images"}
    paths = [word for option, name in given.items() for word in (option, str(tmp_path / name))]
    return [*paths, "--bootstrap", "fleet.example:8884"]


def test_another_tool_reads_the_key_and_the_anchor_back(batch: list[str], tmp_path: Path) -> None:
    assert main(batch) == 0

    held = secure_cert_entries((tmp_path / "images/e-1.secure_cert.bin").read_bytes())
    assert sorted(held) == [CA_CERT, PRIVATE_KEY]
    assert held[CA_CERT] == pem_of(_ROOT.certificate) + b"\0"
    load_der_private_key(held[PRIVATE_KEY], None)


def test_nvs_tells_a_device_who_it_is_and_where_its_fleet_is(batch: list[str], tmp_path: Path) -> None:
    assert main(batch) == 0
    image = (tmp_path / "images/e-2.nvs.bin").read_bytes()
    assert nvs_texts(image) == {"fleet": {"device_id": "e-2", "bootstrap": "fleet.example:8884"}}


def test_a_second_run_gives_the_same_octets(
    batch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(batch)
    first, told = (
        {path: path.read_bytes() for path in (tmp_path / "images").iterdir()},
        capsys.readouterr().out,
    )
    (tmp_path / "images/e-1.nvs.bin").unlink()
    assert main(batch) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "images").iterdir()} == first
    assert capsys.readouterr().out == told


def test_images_with_keys_are_for_their_owner_alone(batch: list[str], tmp_path: Path) -> None:
    main(batch)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "images").iterdir()} == {0o600}


def test_the_list_is_one_that_the_fleet_registers(
    batch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(batch)
    told = capsys.readouterr()
    rows = list(rows_of(Roster(text=told.out, format=ImportFormat.AUTO, domain="prod")))
    assert [row.registration.identity.device_id for row in rows] == ["e-1", "e-2"]
    assert {row.registration.kind for row in rows} <= {ClientKind.AGENT, ClientKind.PLAIN}
    assert all(len(row.things) == 1 for row in rows)
    for entry in csv.DictReader(io.StringIO(told.out)):
        load_der_public_key(base64.b64decode(entry["public_key"]))
    assert "0xd000=" in told.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1"),
        ("id\ne-1\n", "line 1"),
        ("device_id\ne 1\n", "line 2"),
        ("device_id\ne-1\ne-1\n", "line 3"),
        ("device_id,hardware\ne-1\n", "line 2"),
        ("device_id\n../e\n", "line 2"),
    ],
)
def test_a_bad_list_makes_nothing(
    text: str, said: str, batch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "devices.csv").write_text(text)
    assert main(batch) == 6
    assert said in capsys.readouterr().err
    assert not (tmp_path / "images").exists()


def test_an_image_that_is_spoilt_is_never_replaced_by_another_key(
    batch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(batch)
    spoilt = tmp_path / "images/e-1.secure_cert.bin"
    spoilt.write_bytes(bytes([*spoilt.read_bytes()[:100], 0, *spoilt.read_bytes()[101:]]))
    before = spoilt.read_bytes()
    assert main(batch) == 6
    assert "e-1.secure_cert.bin" in capsys.readouterr().err
    assert spoilt.read_bytes() == before


def test_what_does_not_fit_into_nvs_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        nvs_image({"a": "x" * 4000})
    with pytest.raises(ValueError, match="do not fit"):
        nvs_image(dict.fromkeys("abcd", "x" * 3900))
    assert len(nvs_image({})) == SIZE


@given(st.text(max_size=200))
def test_a_list_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        read_units(text)
