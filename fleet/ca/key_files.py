"""Finds the public key in a file of almost any kind that holds one, to tell its hash and nothing else."""

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from fleet.core.goodkey import certified_key, key_hash
from fleet.core.unreadable import UNREADABLE
from fleet.errors import BadInputError, RefusedError

_READERS: tuple[Callable[[bytes], object], ...] = (
    lambda data: x509.load_pem_x509_certificate(data).public_key(),
    lambda data: x509.load_pem_x509_csr(data).public_key(),
    load_pem_public_key,
    lambda data: load_pem_private_key(data, None).public_key(),
    lambda data: x509.load_der_x509_certificate(data).public_key(),
    lambda data: x509.load_der_x509_csr(data).public_key(),
    load_der_public_key,
    lambda data: load_der_private_key(data, None).public_key(),
)


def key_hash_of(content: bytes, *, name: str) -> str:
    """Return the hex SHA-256 of the DER SubjectPublicKeyInfo of the key in a file.

    Raises:
        BadInputError: there is none, or none of a type that is certified at all.
    """
    for read in _READERS:
        try:
            return key_hash(certified_key(read(content)))
        except RefusedError as error:
            raise BadInputError(f"{name}: {error}", hint="such a key needs no blocking") from error
        except UNREADABLE:
            continue
    raise BadInputError(
        f"{name} holds no certificate, request or key that can be read",
        hint="PEM or DER without a passphrase, or a list of SHA-256 hashes",
    )
