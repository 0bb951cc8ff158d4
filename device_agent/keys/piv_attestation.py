"""What a PIV token has said of its keys: certificates in a folder, as its maker's tool wrote them.

The folder has an attestation for the key in question, the certificate of the key that signed it (slot f9),
and what is above that. It holds no secret.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.core.certificates import load, public_key_der, read_bundle
from device_agent.errors import KeyStoreError, StateError
from device_agent.files import read_file
from device_agent.wire.evidence import PivEvidence
from device_agent.wire.problems import MalformedMessageError

_MOST = 48 * 1024
_MOST_FILES, _MOST_IN_FILE = 64, 8
_MOST_ABOVE = 6
_HINT = "ykman piv keys attest SLOT DIR/a.pem; ykman piv certificates export f9 DIR/f9.pem"


def read_attestation(folder: Path, key_der: bytes) -> PivEvidence:
    """Return what the folder has of a key, by its SubjectPublicKeyInfo.

    Raises:
        KeyStoreError: nothing attests it, or a file cannot be read.
    """
    certificates = tuple(_certificates(folder))
    leaf = next((each for each in certificates if public_key_der(each) == key_der), None)
    if leaf is None:
        raise KeyStoreError(f"nothing in {folder} attests the key", hint=_HINT)
    above = "".join(_pem(each) for each in _above(leaf, certificates))
    return PivEvidence(certificate=_pem(leaf), chain=above or None)


def _certificates(folder: Path) -> Iterator[x509.Certificate]:
    files = sorted(folder.glob("*.pem")) if folder.is_dir() else []
    if not files:
        raise KeyStoreError(f"there are no .pem files in {folder}", hint=_HINT)
    for file in files[:_MOST_FILES]:
        try:
            text = (read_file(file, most=_MOST) or b"").decode("ascii", "replace")
            yield from map(load, read_bundle(text, most=_MOST_IN_FILE))
        except StateError as error:
            raise KeyStoreError(str(error), hint=error.hint) from error
        except MalformedMessageError as error:
            raise KeyStoreError(f"{file} holds no certificates in PEM: {error}", hint=_HINT) from error


def _above(leaf: x509.Certificate, found: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """Give what is above a certificate, by names: whether it was signed, the server finds out."""
    below = leaf
    for _ in range(_MOST_ABOVE):
        issuer = next((each for each in found if each.subject == below.issuer and each != below), None)
        if issuer is None or issuer.subject == issuer.issuer:
            return
        yield issuer
        below = issuer


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
