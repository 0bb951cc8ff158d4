"""What an operator is handed: PEM for command line tools, PKCS#12 for a browser, and its password in a file.

Passwords are made, long and random; none is ever asked for or printed.
"""

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleet.ca.pkcs12 import PASSWORD_RANDOMNESS, make_pkcs12, new_password
from fleet.files import PUBLIC_MODE, make_folder, write_file
from fleet.home import OperatorFiles
from fleet.ra.issue_own import OwnCertificate


def write_operator(
    files: OperatorFiles, own: OwnCertificate, *, name: str, randomness: Callable[[int], bytes]
) -> None:
    """Write all four files of an operator. Raises `FleetError`."""
    write_handed_out(files, (own.certificate_pem, own.key_pem.decode()), name=name, randomness=randomness)


def write_handed_out(
    files: OperatorFiles, pems: tuple[str, str], *, name: str, randomness: Callable[[int], bytes]
) -> None:
    """Write all four files from the certificate with its chain, and the key. Raises `FleetError`."""
    certificate_pem, key_pem = pems
    certificate, *chain = x509.load_pem_x509_certificates(certificate_pem.encode())
    key = load_pem_private_key(key_pem.encode(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)  # noqa: S101 - our own keys are
    make_folder(files.key.parent)
    password = new_password(randomness(PASSWORD_RANDOMNESS))
    p12 = make_pkcs12(name, key, certificate=certificate, chain=chain, password=password)
    write_file(files.key, key_pem.encode())
    write_file(files.certificate, certificate_pem.encode(), mode=PUBLIC_MODE)
    write_file(files.p12_password, f"{password.reveal()}\n".encode())
    write_file(files.p12, p12)
