"""Entries of revocation lists, read back by a parser that is not ours."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.revocation import encode_entry
from fleet.model import RevocationReason

AT = datetime(2026, 5, 1, 12, 30, 15, tzinfo=UTC)
SERIAL = "7f" + "ab" * 15
KEY = ec.derive_private_key(7, ec.SECP256R1())

serials = st.integers(1, 2**127 - 1).map(lambda number: f"{number:032x}")
moments = st.integers(946_684_800, 7_258_118_399).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
"""From 2000 through 2199, in whole seconds."""


def entry_by_another_encoder(serial: str, at: datetime, reason: RevocationReason) -> bytes:
    """Return what the list of a real CA holds for this entry, cut out of its DER."""
    revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(at)
    if reason is not RevocationReason.UNSPECIFIED:
        flag = x509.CRLReason(x509.ReasonFlags(reason.value))
        revoked = revoked.add_extension(flag, critical=False)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([]))
        .last_update(AT)
        .next_update(AT)
        .add_revoked_certificate(revoked.build())
        .sign(KEY, hashes.SHA256())
    )
    return crl.public_bytes(Encoding.DER)


def test_an_entry_has_these_octets() -> None:
    assert encode_entry(SERIAL, AT, RevocationReason.SUPERSEDED).hex() == (
        "302f02107f" + "ab" * 15 + "170d3236303530313132333031355a300c300a0603551d1504030a0104"
    )


def test_without_a_reason_there_is_no_extension() -> None:
    assert encode_entry(SERIAL, AT, RevocationReason.UNSPECIFIED).hex() == (
        "302102107f" + "ab" * 15 + "170d3236303530313132333031355a"
    )


@pytest.mark.parametrize("reason", RevocationReason)
def test_each_reason_is_encoded_as_another_encoder_does(reason: RevocationReason) -> None:
    assert encode_entry(SERIAL, AT, reason) in entry_by_another_encoder(SERIAL, AT, reason)


@given(serials, moments, st.sampled_from(RevocationReason))
def test_every_entry_is_encoded_as_another_encoder_does(
    serial: str, at: datetime, reason: RevocationReason
) -> None:
    assert encode_entry(serial, at, reason) in entry_by_another_encoder(serial, at, reason)
