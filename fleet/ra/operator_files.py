"""What an operator is handed: PEM for command line tools, PKCS#12 for a browser, and its password in a file.

Passwords are made, long and random; none is ever asked for or printed.
"""

from collections.abc import Callable

from cryptography import x509

from fleet.ca.pkcs12 import PASSWORD_RANDOMNESS, make_pkcs12, new_password
from fleet.files import make_folder, write_file
from fleet.home import KeyPairFiles, OperatorFiles
from fleet.ra.issue_own import OwnCertificate, write_pair


def write_operator(
    files: OperatorFiles, own: OwnCertificate, *, name: str, randomness: Callable[[int], bytes]
) -> None:
    """Write all four files of an operator. Raises `FleetError`."""
    make_folder(files.key.parent)
    password = new_password(randomness(PASSWORD_RANDOMNESS))
    p12 = make_pkcs12(
        name,
        own.key,
        certificate=own.certificate,
        chain=x509.load_pem_x509_certificates(own.chain_pem.encode()),
        password=password,
    )
    write_pair(KeyPairFiles(certificate=files.certificate, key=files.key), own)
    write_file(files.p12_password, f"{password.reveal()}\n".encode())
    write_file(files.p12, p12)
