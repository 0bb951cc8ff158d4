"""The key that signs heads of the audit trail: P-256, ECDSA with SHA-256.

It is not encrypted, for a signature stands in every commit; whoever can read it can write the database too.
What it proves, it proves to those who keep an earlier head elsewhere.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from fleet.ca.signers import is_signed, load_key, make_key, plain_pem, sign_message
from fleet.errors import BadInputError
from fleet.files import PUBLIC_MODE, telling, write_file


def make_audit_key(key_file: Path, *, public_file: Path) -> None:
    """Make the key, and write both halves. Raises `FleetError`."""
    key = make_key()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_file(key_file, plain_pem(key))
    write_file(public_file, public, mode=PUBLIC_MODE)


def load_audit_signer(key_file: Path) -> Callable[[bytes], bytes]:
    """Return what signs a message with the key of a file that only its owner can read.

    Raises:
        NotFoundError, BadInputError: the file is not there, not safe, or holds no such key.
    """
    key = load_key(key_file, passphrase=None)
    return lambda message: sign_message(key, message)


def load_audit_verifier(public_file: Path) -> Callable[[bytes, bytes], bool]:
    """Return what tells whether (signature, message) is of the audit key.

    Raises:
        BadInputError: the file cannot be read, or holds no P-256 key.
    """
    with telling(public_file):
        return parse_audit_verifier(public_file.read_bytes(), named=str(public_file))


def parse_audit_verifier(content: bytes, *, named: str) -> Callable[[bytes, bytes], bool]:
    """Return the same from PEM; `named` is where it comes from. Raises `BadInputError`."""
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInputError(f"{named} holds no public key", hint="restore it") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadInputError(f"{named} holds no P-256 key", hint="restore it")
    return lambda signature, message: is_signed(key, signature, message)
