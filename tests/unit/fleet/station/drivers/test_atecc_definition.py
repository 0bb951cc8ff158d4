"""Where things stand in a certificate, as the firmware of esp-cryptoauth-utility wants to be told."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleet.station.drivers.atecc_definition import LONGEST, definition_of
from fleet.station.drivers.console import ConsoleError
from tests.vendors.atecc import Atecc


def certificate(*, begun: int = 2030, name: str = "d1", padding: int = 0) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime(begun, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(begun + 1, 1, 1, tzinfo=UTC))
        .add_extension(x509.OCSPNonce(bytes(padding + 1)), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_the_places_are_those_of_the_certificate() -> None:
    der = certificate()
    definition = definition_of(der)
    assert Atecc._is_definition(definition)
    assert bytes.fromhex(definition[72:]) == der


def test_what_is_longer_than_the_firmwares_buffer_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ConsoleError, match="does not fit"):
        definition_of(certificate(padding=LONGEST // 2))


def test_a_date_in_another_form_is_refused() -> None:
    with pytest.raises(ConsoleError, match="2049"):
        definition_of(certificate(begun=2050))
