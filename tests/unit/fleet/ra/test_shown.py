"""Whatever certificate somebody shows, it is named exactly or refused: nothing else comes out."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.broker.shown import read_shown
from fleet.errors import BadInputError
from fleet.ra.requests.recover import read_certificate
from fleet.ra.shown import shown_certificate

VECTORS = sorted(
    path for path in (Path(cryptography_vectors.__file__).parent / "x509").rglob("*") if path.is_file()
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The library warns of some bytes that it reads all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_every_known_strange_certificate_in_pem_is_read_or_refused() -> None:
    for path in VECTORS:
        try:
            read_certificate(path.read_text(encoding="latin-1"))
        except BadInputError:
            continue


def test_every_known_strange_certificate_in_der_is_named_or_refused() -> None:
    for path in VECTORS:
        try:
            certificate = read_certificate(path.read_text(encoding="latin-1"))
        except BadInputError:
            continue
        der = certificate.public_bytes(Encoding.DER)
        read_shown(der)
        try:
            shown_certificate(der)
        except BadInputError:
            continue


def test_every_known_strange_file_is_named_or_refused() -> None:
    for path in VECTORS:
        read_shown(path.read_bytes())
        try:
            shown_certificate(path.read_bytes())
        except BadInputError:
            continue
