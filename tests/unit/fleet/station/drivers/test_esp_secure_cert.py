"""The partition `esp_secure_cert`, written by us and read by Espressif's own tool."""

import struct
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from esp_secure_cert import tlv_parser
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from fleet.station.drivers.esp_secure_cert import (
    SIZE,
    SecureCert,
    is_erased,
    private_key_of,
    secure_cert_image,
)
from tests.factory_floor import Floor

FLOOR = Floor()
KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
IMAGE = secure_cert_image(key=KEY, chain=FLOOR.identity.chain, anchors=[FLOOR.anchor])


def entries_by_espressif(image: bytes) -> dict[int, bytes]:
    """Read an image as esp-secure-cert-tool does, entry by entry, its checksums with it."""
    found, at = {}, 0
    while struct.unpack_from("<I", image, at)[0] == tlv_parser.ESP_SECURE_CERT_TLV_MAGIC:
        header, length = tlv_parser.parse_tlv_header(image, at)
        whole = tlv_parser.get_tlv_total_length(header)
        footer, _ = tlv_parser.parse_tlv_footer(image, at + whole - 4)
        assert tlv_parser.verify_tlv_integrity(header, image[at : at + whole - 4], footer)[0]
        found[header["type"]] = image[at + length :][: header["length"]]
        at += whole
    return found


def test_espressifs_tool_reads_back_what_was_written() -> None:
    found = entries_by_espressif(IMAGE)
    assert found[2] == KEY
    assert found[1].count(b"BEGIN CERTIFICATE") == len(FLOOR.identity.chain)
    assert found[0].endswith(b"\0")
    assert len(IMAGE) == SIZE


def test_the_same_image_comes_out_each_time() -> None:
    assert secure_cert_image(key=KEY, chain=FLOOR.identity.chain, anchors=[FLOOR.anchor]) == IMAGE


def test_what_was_written_is_read_without_its_key() -> None:
    found = SecureCert.read(IMAGE)
    assert found == SecureCert(chain=FLOOR.identity.chain, anchors=(FLOOR.anchor,), key_octets=len(KEY))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="must not exceed"):
        secure_cert_image(key=KEY, chain=FLOOR.identity.chain * 8, anchors=[FLOOR.anchor])


def test_flash_that_was_never_written_is_told_from_what_was() -> None:
    assert is_erased(b"\xff" * SIZE)
    assert not is_erased(IMAGE)


@given(at=st.integers(0, 1500), flip=st.integers(1, 255))
def test_a_spoilt_image_is_never_read_as_another(at: int, flip: int) -> None:
    spoilt = bytearray(IMAGE)
    spoilt[at] ^= flip
    with suppress(MalformedMessageError):
        assert SecureCert.read(bytes(spoilt)).chain in ((), FLOOR.identity.chain)


@given(st.binary(max_size=600))
def test_no_bytes_break_the_reader(octets: bytes) -> None:
    with suppress(MalformedMessageError):
        assert SecureCert.read(octets).chain == ()


@given(st.integers(0, SIZE))
def test_an_image_that_is_cut_off_is_no_other_image(length: int) -> None:
    with suppress(MalformedMessageError):
        found = SecureCert.read(IMAGE[:length].ljust(SIZE, b"\xff"))
        assert found.chain in ((), FLOOR.identity.chain)
        assert found.key_octets in (0, len(KEY))


def test_the_key_is_read_back_only_where_it_is_asked_for() -> None:
    assert private_key_of(IMAGE) == KEY
    without = secure_cert_image(key=b"", chain=FLOOR.identity.chain, anchors=())
    assert SecureCert.read(without) == SecureCert(chain=FLOOR.identity.chain, anchors=(), key_octets=0)
    with pytest.raises(MalformedMessageError, match="private key"):
        private_key_of(without)
