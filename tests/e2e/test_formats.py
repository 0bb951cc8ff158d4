"""What is handed out is read by other people's programs: PKCS#12 in both forms, PKCS#7, DER and PEM."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from fleet.ca.certificate_files import read_certificates
from fleet.ca.pkcs7 import make_pkcs7, read_pkcs7
from fleet.ca.pkcs12 import Compat
from fleet.errors import BadInputError
from fleet.home import OperatorFiles
from fleet.ra.people.operator_files import write_handed_out
from tests.homes import FleetHome, make_home


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("fleet") / "home")


def said(*command: str | Path) -> str:
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def handed_out(made: FleetHome, folder: Path, compat: Compat) -> OperatorFiles:
    """What `fleet operator add --compat` writes."""
    own = made.home.operator("admin")
    pems = (own.certificate.read_text(), own.key.read_text())
    files = OperatorFiles(
        certificate=folder / "ada.crt",
        key=folder / "ada.key",
        p12=folder / "ada.p12",
        p12_password=folder / "ada.p12-password",
    )
    write_handed_out(files, pems, name="ada", randomness=lambda size: bytes(range(size)), compat=compat)
    return files


def by_openssl(files: OperatorFiles, compat: Compat) -> str:
    old = ["-legacy"] if compat is Compat.LEGACY else []
    password = f"file:{files.p12_password}"
    return said("openssl", "pkcs12", *old, "-in", files.p12, "-passin", password, "-noout", "-info")


def by_java(files: OperatorFiles, _compat: Compat) -> str:
    password = ["-storepass:file", files.p12_password, "-storetype", "PKCS12"]
    return said("keytool", "-list", "-v", "-keystore", files.p12, *password)


def by_nss(files: OperatorFiles, _compat: Compat) -> str:
    database = f"sql:{files.p12.parent}"
    said("certutil", "-N", "-d", database, "--empty-password")
    return said("pk12util", "-l", files.p12, "-d", database, "-w", files.p12_password)


def by_gnutls(files: OperatorFiles, _compat: Compat) -> str:
    password = f"--password={files.p12_password.read_text().strip()}"
    return said("certtool", "--p12-info", "--inder", "--infile", files.p12, password)


READERS: dict[str, tuple[Callable[[OperatorFiles, Compat], str], dict[Compat, str]]] = {
    "openssl": (
        by_openssl,
        {Compat.MODERN: "PBES2, PBKDF2, AES-256-CBC", Compat.LEGACY: "pbeWithSHA1And3-KeyTripleDES-CBC"},
    ),
    "keytool": (by_java, dict.fromkeys(Compat, "PrivateKeyEntry")),
    "pk12util": (by_nss, dict.fromkeys(Compat, "Friendly Name: ada")),
    "certtool": (by_gnutls, dict.fromkeys(Compat, "BEGIN CERTIFICATE")),
}


@pytest.mark.needs("openssl", "keytool", "certutil", "certtool")
@pytest.mark.parametrize("compat", Compat)
@pytest.mark.parametrize("reader", READERS)
def test_pkcs12_is_read_in_both_forms(made: FleetHome, tmp_path: Path, reader: str, compat: Compat) -> None:
    read, words = READERS[reader]
    files = handed_out(made, tmp_path, compat)
    assert words[compat] in read(files, compat)


def test_the_modern_form_is_the_default_and_holds_key_and_chain(made: FleetHome) -> None:
    files = made.home.operator("admin")
    opened = load_pkcs12(files.p12.read_bytes(), files.p12_password.read_text().strip().encode())
    assert opened.cert is not None
    assert opened.key is not None
    assert len(opened.additional_certs) == 1


@pytest.mark.needs("openssl", "keytool", "certtool")
def test_pkcs7_is_read_with_all_that_it_holds(made: FleetHome, tmp_path: Path) -> None:
    chain = x509.load_pem_x509_certificates(made.home.server.certificate.read_bytes())
    path = tmp_path / "chain.p7b"
    path.write_text(make_pkcs7(chain))
    assert said("openssl", "pkcs7", "-in", path, "-print_certs", "-noout").count("subject=") == len(chain)
    assert said("keytool", "-printcert", "-file", path).count("Serial number:") == len(chain)
    assert said("certtool", "--p7-info", "--infile", path).count("BEGIN CERTIFICATE") == len(chain)


@pytest.mark.needs("openssl")
def test_der_is_read(made: FleetHome, tmp_path: Path) -> None:
    leaf = x509.load_pem_x509_certificate(made.home.server.certificate.read_bytes())
    path = tmp_path / "leaf.der"
    path.write_bytes(leaf.public_bytes(Encoding.DER))
    assert "BEGIN CERTIFICATE" in said("openssl", "x509", "-inform", "DER", "-in", path)


def test_every_form_of_a_certificate_is_read_back(made: FleetHome) -> None:
    pem = made.home.server.certificate.read_bytes()
    leaf, *above = x509.load_pem_x509_certificates(pem)
    pkcs7 = make_pkcs7([leaf, *above]).encode()
    for content in (pem, leaf.public_bytes(Encoding.DER), b"a note\n" + pem, pkcs7):
        assert leaf in read_certificates(content)
    assert set(read_pkcs7(pkcs7)) == {leaf, *above}


def of_another_kind(made: FleetHome) -> dict[str, bytes]:
    home = made.home
    pem = home.server.certificate.read_bytes()
    return {
        "is empty": b"",
        "larger than": b"x" * 70_000,
        "a private key": home.server.key.read_bytes(),
        "PKCS#12": home.operator("admin").p12.read_bytes(),
        "a revocation list": b"-----BEGIN X509 CRL-----\n",
        "a request": b"-----BEGIN CERTIFICATE REQUEST-----\n",
        "damaged": pem[:200] + pem[220:],
        "no certificate": b"hello",
    }


def test_a_file_that_holds_something_else_is_told_what_it_is(made: FleetHome) -> None:
    for words, content in of_another_kind(made).items():
        with pytest.raises(BadInputError, match=words):
            read_certificates(content)
