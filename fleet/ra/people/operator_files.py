"""What an operator is handed: PEM for command line tools, PKCS#12 for a browser, and its password in a file.

Passwords are made, long and random; none is ever asked for or printed.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleet.ca.pkcs12 import PASSWORD_RANDOMNESS, Compat, make_pkcs12, new_password
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import OperatorFiles
from fleet.pair_files import Content
from fleet.ra.issue_own import OwnCertificate


def write_operator(
    files: OperatorFiles, own: OwnCertificate, *, name: str, randomness: Callable[[int], bytes]
) -> None:
    """Write all four files of an operator. Raises `FleetError`."""
    write_handed_out(files, (own.certificate_pem, own.key_pem.decode()), name=name, randomness=randomness)


def write_handed_out(
    files: OperatorFiles,
    pems: tuple[str, str],
    *,
    name: str,
    randomness: Callable[[int], bytes],
    compat: Compat = Compat.MODERN,
) -> None:
    """Write all four files from the certificate with its chain, and the key. Raises `FleetError`."""
    make_folder(files.key.parent)
    contents = operator_content(files, pems, name=name, randomness=randomness, compat=compat)
    for path, content in contents.items():
        write_file(path, content.data, mode=content.mode)


def operator_content(
    files: OperatorFiles,
    pems: tuple[str, str],
    *,
    name: str,
    randomness: Callable[[int], bytes],
    compat: Compat = Compat.MODERN,
) -> dict[Path, Content]:
    """Return what the four files of an operator hold: certificate with its chain, key, PKCS#12, password."""
    certificate_pem, key_pem = pems
    certificate, *chain = x509.load_pem_x509_certificates(certificate_pem.encode())
    key = load_pem_private_key(key_pem.encode(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)  # noqa: S101 - our own keys are
    password = new_password(randomness(PASSWORD_RANDOMNESS))
    return {
        files.key: Content(data=key_pem.encode()),
        files.certificate: Content(data=certificate_pem.encode(), mode=PUBLIC_MODE),
        files.p12_password: Content(data=f"{password.reveal()}\n".encode()),
        files.p12: Content(
            data=make_pkcs12(
                name, key, certificate=certificate, chain=chain, password=password, compat=compat
            )
        ),
    }
