"""A station's identity: read from its files, small on the line, and its key shown nowhere."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.core.station_trust import check_station
from fleet.errors import BadInputError
from fleet.station.own.identity import StationIdentity
from tests.homes import make_home, utc_now
from tests.pki import Authority, key_pem


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The station that `fleet init` makes: certificate, key, and what devices trust it by."""
    home = make_home(tmp_path_factory.mktemp("home") / "fleet").home
    station = home.station("local")
    return station.certificate, station.key, home.server_trust


def test_the_station_of_a_new_fleet_is_obeyed_by_devices_that_trust_its_servers(
    files: tuple[Path, Path, Path],
) -> None:
    certificate, key, trust = files
    identity = StationIdentity.load(certificate, key)
    anchors = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(trust.read_bytes())]
    name = check_station(
        identity.chain, anchors, signature=identity.sign(b"text"), signed=b"text", now=utc_now()
    )
    assert name == identity.name == "local"


def test_what_crosses_the_line_with_every_unit_holds_no_url(files: tuple[Path, Path, Path]) -> None:
    identity = StationIdentity.load(*files[:2])
    assert len(identity.chain) == 2
    assert all(b"http" not in certificate for certificate in identity.chain)
    assert sum(map(len, identity.chain)) < 1000


def test_the_key_is_shown_nowhere(files: tuple[Path, Path, Path]) -> None:
    identity = StationIdentity.load(*files[:2])
    assert "key" not in repr(identity)


def test_a_key_of_another_certificate_is_refused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(key_pem(Authority.root("x").key))
    with pytest.raises(BadInputError, match="is not for the key"):
        StationIdentity.load(files[0], other)


def test_a_key_that_the_link_does_not_use_is_refused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    key = ed25519.Ed25519PrivateKey.generate()
    other.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(BadInputError, match="EC key"):
        StationIdentity.load(files[0], other)


@pytest.mark.parametrize(
    "content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_files_that_cannot_be_read_are_told(
    files: tuple[Path, Path, Path], tmp_path: Path, content: bytes | None
) -> None:
    broken = tmp_path / "broken.crt"
    if content is not None:
        broken.write_bytes(content)
    with pytest.raises(BadInputError, match="cannot read"):
        StationIdentity.load(broken, files[1])
