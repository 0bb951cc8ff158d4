"""Who the station is: its certificate chain, and the key that signs its orders to devices and its journal.

The key stays in memory, or in a token, and signs; nothing here prints it or writes it.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from device_agent.wire.factory import MAX_STATION_CHAIN
from device_agent.wire.identity import serial_hex
from fleet.ca.signers import KeySigner, Signer
from fleet.ca.token_keys import TokenKeys
from fleet.errors import BadInputError
from fleet.home import REFUSED_PINS, KeyPairFiles
from fleet.pair_files import place_of

if TYPE_CHECKING:
    from fleet.ca.token import TokenSigner

TOKEN_FILE = ".pkcs11"  # noqa: S105 - a suffix
"""Of the file beside the certificate that says in which token the key is (RFC 7512), where it is in one."""
_HINT = "fleet station add makes both"


@dataclass(frozen=True, slots=True, kw_only=True)
class StationIdentity:
    """A station's name, chain (DER, leaf first, without the root) and key."""

    name: str
    chain: tuple[bytes, ...]
    signer: Signer = field(repr=False)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read the certificate with its issuing CA below it, and the key: PEM, or a token that a file names.

        Raises:
            BadInputError: a file cannot be read, or the two do not belong together.
            FleetError: the token cannot be used.
        """
        chain = _read_chain(certificate)
        token = token_file(key)
        signer: Signer = read_key(key) if token is None else token_signer(certificate, token)
        if chain[0].public_key() != signer.public_key or len(chain) > MAX_STATION_CHAIN:
            raise BadInputError(f"the certificate {certificate} is not for the key {key}", hint=_HINT)
        return cls(
            name=name_of(chain[0]),
            chain=tuple(item.public_bytes(Encoding.DER) for item in chain),
            signer=signer,
        )

    @property
    def serial(self) -> str:
        """The serial of the station's certificate, 32 lower-case hex."""
        return serial_hex(x509.load_der_x509_certificate(self.chain[0]).serial_number)

    @property
    def ends(self) -> datetime:
        """When the station's certificate ends."""
        return x509.load_der_x509_certificate(self.chain[0]).not_valid_after_utc

    def sign(self, message: bytes) -> bytes:
        """Return an ECDSA signature with SHA-256, in DER. Raises `FleetError` where a token does not."""
        return self.signer.sign(message)


def pair_of(files: KeyPairFiles) -> KeyPairFiles:
    """Return a station's files; in the place of a key that is in a token stands the file that names it."""
    return replace(files, key=token_file(files.key) or files.key)


def token_file(key: Path) -> Path | None:
    """Return the file that says in which token a key is; None where it is in a file.

    Raises:
        BadInputError: there are both; which one is meant is not guessed.
    """
    token = key.with_suffix(TOKEN_FILE)
    if not token.exists():
        return None
    if token != key and key.exists():
        raise BadInputError(f"there are both {key} and {token.name}", hint="remove the one that is not used")
    return token


def token_signer(certificate: Path, token: Path) -> "TokenSigner":
    """Return the key of a certificate, which is in the token that a file names; raises as `load`."""
    public_key = _read_chain(certificate)[0].public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise BadInputError(f"the certificate {certificate} is for no EC key", hint=_HINT)
    return tokens_beside(token).signer(token, public_key)


def tokens_beside(file: Path) -> TokenKeys:
    """Return the tokens of a station's keys, by the file that names one.

    What they refused is kept beside that, over restarts.
    """
    return _tokens_in(place_of(file))


@cache
def _tokens_in(folder: Path) -> TokenKeys:
    """Return one for each folder: a PIN that was handed over can be read once."""
    return TokenKeys(folder / REFUSED_PINS)


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot read the station's certificate from {path}", hint=_HINT) from error


def read_key(path: Path) -> KeySigner:
    """Return the key of a file, on P-256. Raises `BadInputError`."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(f"cannot read the station's key from {path}", hint=_HINT) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInputError(f"the station's key in {path} is not an EC key on P-256", hint=_HINT)
    return KeySigner(key)


def name_of(certificate: x509.Certificate) -> str:
    """Return the common name: of a station's certificate, its name."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
