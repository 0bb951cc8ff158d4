"""Bundles that others sent."""

import contextlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from device_agent.core.certificates import (
    MAX_CERTIFICATE_BYTES,
    bundle,
    load,
    public_key_der,
    read_bundle,
    read_leaf,
)
from device_agent.wire.problems import MalformedMessageError
from tests.pki import Authority

ROOT = Authority.root("root")
ROOT_DER = ROOT.certificate.public_bytes(Encoding.DER)


def test_a_bundle_reads_back_as_it_was_written() -> None:
    assert read_bundle(bundle([ROOT_DER, ROOT_DER]), most=2) == (ROOT_DER, ROOT_DER)


def test_more_blocks_than_are_wanted_are_refused() -> None:
    with pytest.raises(MalformedMessageError):
        read_bundle(bundle([ROOT_DER, ROOT_DER]), most=1)


def test_a_block_that_is_too_large_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        read_bundle(bundle([b"\x30" * (MAX_CERTIFICATE_BYTES + 1)]), most=1)


def test_text_between_the_blocks_is_refused() -> None:
    with pytest.raises(MalformedMessageError):
        read_bundle(bundle([ROOT_DER]) + "hello\n" + bundle([ROOT_DER]), most=2)


@given(text=st.text(max_size=200))
@example(text="-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----")
@example(text="-----BEGIN CERTIFICATE-----\n=\n-----END CERTIFICATE-----")
def test_any_text_reads_as_a_bundle_or_as_malformed(text: str) -> None:
    with contextlib.suppress(MalformedMessageError):
        assert read_bundle(text, most=3)


def test_a_certificate_with_a_negative_serial_number_is_malformed() -> None:
    # RFC 5280 4.1.2.2; the first octet of the serial's value stands where the tag of its length ends.
    with pytest.raises(MalformedMessageError):
        load(ROOT_DER[:15] + b"\x80" + ROOT_DER[16:])


@given(octets=st.binary(max_size=200), at=st.integers(0, len(ROOT_DER) - 1))
def test_a_damaged_certificate_is_malformed_and_never_anything_else(octets: bytes, at: int) -> None:
    damaged = ROOT_DER[:at] + octets + ROOT_DER[at + len(octets) :]
    with contextlib.suppress(MalformedMessageError):
        read_leaf(damaged)
        public_key_der(load(damaged))
