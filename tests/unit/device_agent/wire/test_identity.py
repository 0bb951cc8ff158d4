"""Names: what is right passes unchanged, everything else is refused."""

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import (
    Identity,
    dns_label,
    dns_name,
    parse_device_id,
    parse_domain,
    parse_name,
    parse_serial,
    serial_hex,
)
from device_agent.wire.problems import MalformedMessageError

ID_ALPHABET = string.ascii_letters + string.digits + "_:-"
device_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,63}", fullmatch=True)

HOSTILE_IDS = [
    "", "a/b", "+", "#", "a+b", "a\n", "\na", "a b", "a.b", "-a", "_a", ":a", "a" * 65, "a" * 65536,
    "dеvice",  # a Cyrillic letter that looks like an e
    "a\u200b", "é", "$SYS", "a\x00", "../x", None, 7, b"d1",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_IDS)
def test_a_hostile_device_id_is_refused(text: object) -> None:
    with pytest.raises(MalformedMessageError):
        parse_device_id(text)


@given(device_ids)
def test_a_device_id_of_the_alphabet_passes_unchanged(device_id: str) -> None:
    assert parse_device_id(device_id) == device_id


@given(st.text())
def test_any_other_text_is_refused_and_never_cleaned_up(text: str) -> None:
    try:
        assert parse_device_id(text) == text
    except MalformedMessageError:
        return
    assert set(text) <= set(ID_ALPHABET)
    assert 1 <= len(text) <= 64


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a.b", "a_b", "a" * 33, "ä", None])
def test_a_domain_that_is_no_dns_label_is_refused(text: object) -> None:
    with pytest.raises(MalformedMessageError):
        parse_domain(text)


@given(device_ids)
def test_a_broker_name_leads_back_to_its_identity(device_id: str) -> None:
    identity = Identity(domain="prod", device_id=device_id)
    assert parse_name(identity.name) == identity


@pytest.mark.parametrize("text", ["prod", ":d1", "prod:", "PROD:d1", "prod:a/b", None])
def test_a_broken_broker_name_is_refused(text: object) -> None:
    with pytest.raises(MalformedMessageError):
        parse_name(text)


@pytest.mark.parametrize(
    ("device_id", "label"),
    [
        ("d1", "d1"),
        ("line3-0042", "line3-0042"),
        ("D1", "h-" + hashlib.sha256(b"D1").hexdigest()[:32]),
        ("a_b", "h-" + hashlib.sha256(b"a_b").hexdigest()[:32]),
        ("a-", "h-" + hashlib.sha256(b"a-").hexdigest()[:32]),
        ("h-00", "h-" + hashlib.sha256(b"h-00").hexdigest()[:32]),
        ("a" * 63, "a" * 63),
        ("a" * 64, "h-" + hashlib.sha256(b"a" * 64).hexdigest()[:32]),
    ],
)
def test_the_dns_label_is_the_id_or_its_hash(device_id: str, label: str) -> None:
    assert dns_label(device_id) == label


@given(device_ids, device_ids)
def test_two_devices_never_share_a_dns_label(one: str, other: str) -> None:
    assert (dns_label(one) == dns_label(other)) == (one == other)


def test_the_dns_name_is_label_domain_fleet() -> None:
    assert dns_name(Identity(domain="prod", device_id="d1"), fleet="acme") == "d1.prod.acme"


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_a_serial_is_always_32_hex_digits(number: int) -> None:
    assert int(parse_serial(serial_hex(number)), 16) == number


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0x" + "0" * 30, 5, None])
def test_a_serial_in_another_form_is_refused(text: object) -> None:
    with pytest.raises(MalformedMessageError):
        parse_serial(text)
