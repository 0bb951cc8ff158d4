"""The file of revocation lists that a broker reads: all of its issuing CAs, and never too much."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.broker.second_layer import MOST_ENTRIES, CrlFile, file_text, verified
from fleet.ca.crl import make_crl
from fleet.core.revocation import encode_entry
from fleet.errors import BadInputError
from fleet.model import Purpose, RevocationReason
from tests.homes import FleetHome, make_home

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def fleet_home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("layer") / "home")


def crl_of(home: FleetHome, domain: str, entries: int) -> tuple[x509.Certificate, bytes]:
    issuer = home.authority.issuer(Purpose.DEVICE, domain)
    revoked = [
        encode_entry(f"41{number:030x}", NOW, RevocationReason.KEY_COMPROMISE) for number in range(entries)
    ]
    encoded = make_crl(issuer, revoked, number=1, this_update=NOW, next_update=NOW + timedelta(days=1))
    return issuer.certificate, encoded


@pytest.mark.parametrize(("first", "second"), [(0, 0), (MOST_ENTRIES - 1, 1)])
def test_a_file_holds_the_list_of_each_ca(fleet_home: FleetHome, first: int, second: int) -> None:
    prod, lab = crl_of(fleet_home, "prod", first), crl_of(fleet_home, "lab", second)
    file = CrlFile(path=Path("x.pem"), issuers=(prod[0], lab[0]))
    text = file_text(file, verified([lab[1], prod[1]], file.issuers, now=NOW))
    assert [len(list(crl)) for crl in map(x509.load_pem_x509_crl, split(text))] == [first, second]


def split(text: bytes) -> list[bytes]:
    end = b"-----END X509 CRL-----\n"
    return [part + end for part in text.split(end) if part]


def test_a_file_that_slows_every_handshake_down_is_never_written(fleet_home: FleetHome) -> None:
    prod, lab = crl_of(fleet_home, "prod", MOST_ENTRIES), crl_of(fleet_home, "lab", 1)
    file = CrlFile(path=Path("x.pem"), issuers=(prod[0], lab[0]))
    with pytest.raises(BadInputError, match="at most 10000 entries, not 10001"):
        file_text(file, verified([prod[1], lab[1]], file.issuers, now=NOW))


def test_the_list_of_a_ca_that_has_another_key_is_refused(fleet_home: FleetHome) -> None:
    prod = crl_of(fleet_home, "prod", 0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(prod[0].subject)
        .issuer_name(prod[0].subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    namesake = builder.sign(ec.generate_private_key(ec.SECP256R1()), prod[0].signature_hash_algorithm)
    with pytest.raises(BadInputError, match="bad signature"):
        verified([prod[1]], (namesake,), now=NOW)
