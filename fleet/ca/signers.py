"""Private keys of the authority: in encrypted files, opened at their first use; tokens take the same shape.

A key never leaves as text, is never logged, and a file that others could read is refused.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from device_agent.wire.secret import Secret
from fleet.ca import der
from fleet.core.goodkey import CertifiedKey, KeyType
from fleet.errors import BadInputError, FleetError, NotFoundError
from fleet.files import read_secret, read_secret_bytes

CREDENTIAL = "fleet-issuing-passphrase"
"""Name of the systemd credential (systemd.exec(5), LoadCredential=) that opens the issuing keys."""

ClassicPrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PrivateKey: TypeAlias = ClassicPrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey

# Where systemd lets the service's user in by an access control list, the mask of that list shows as the
# group's right to read (acl(5)); the folder is of systemd's making, and closed to all others.
_CREDENTIAL_CLOSED = 0o037

_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # RFC 8018 A.4
_SCRYPT = bytes.fromhex("06092b06010401da47040b")  # RFC 7914 7
_AES_256_CBC = bytes.fromhex("060960864801650304012a")  # RFC 8018 B.2.5
_SCRYPT_R = 8
_SCRYPT_P = 1
_SALT_BYTES = 16
_AUTHORITY_RSA_BITS = 3072


class Signer(Protocol):
    """A private key that signs as X.509 wants it, wherever it lives."""

    @property
    def public_key(self) -> CertifiedKey:
        """The other half."""
        ...

    @property
    def waits(self) -> bool:
        """Whether a signature waits for somebody else, so that others must be served meanwhile."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature over a message: ECDSA or RSA PKCS#1 v1.5 with the key's hash, or Ed25519.

        Raises:
            FleetError: the key cannot be used.
        """
        ...

    def unlock(self) -> None:
        """Make sure that the key can be used. Raises `FleetError`."""
        ...


class FileSigner:
    """A key in an encrypted PEM file, opened at its first use: its KDF takes a while on purpose."""

    __slots__ = ("_key", "_passphrase", "_path", "_public_key")

    def __init__(self, path: Path, *, passphrase: Secret | None, public_key: CertifiedKey) -> None:
        self._path = path
        self._passphrase = passphrase
        self._public_key = public_key
        self._key: PrivateKey | None = None

    @property
    def public_key(self) -> CertifiedKey:
        return self._public_key

    @property
    def waits(self) -> bool:
        return False

    def sign(self, message: bytes) -> bytes:
        return sign_message(self.private_key(), message)

    def unlock(self) -> None:
        self.private_key()

    def private_key(self) -> PrivateKey:
        """Return the key, for builders that ask for one.

        Raises:
            NotFoundError, BadInputError: the file is not there, not safe, or the passphrase is wrong.
        """
        if self._key is None:
            key = load_key(self._path, passphrase=self._passphrase)
            if key.public_key() != self._public_key:
                raise BadInputError(
                    f"{self._path} holds another key than its certificate",
                    hint="restore both from the backup",
                )
            self._key = key
        return self._key


class KeySigner:
    """A key that is open already, as when it has just been made."""

    __slots__ = ("_key",)

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> CertifiedKey:
        return self._key.public_key()

    @property
    def waits(self) -> bool:
        return False

    def sign(self, message: bytes) -> bytes:
        return sign_message(self._key, message)

    def unlock(self) -> None:
        """It is open."""


def make_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key, as every key of ours is by default."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority_key(key_type: KeyType) -> PrivateKey:
    """Make a key for an authority, of the type that its domain is set to."""
    match key_type:
        case KeyType.P256:
            return make_key()
        case KeyType.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyType.RSA:
            return rsa.generate_private_key(public_exponent=65537, key_size=_AUTHORITY_RSA_BITS)
        case KeyType.ML_DSA_44:
            return mldsa.MLDSA44PrivateKey.generate()
        case KeyType.ML_DSA_65:
            return mldsa.MLDSA65PrivateKey.generate()


def rehearsal_key(public_key: CertifiedKey) -> PrivateKey:
    """Make a throw-away key whose signatures have the same algorithm as those of the real one."""
    match public_key:
        case ec.EllipticCurvePublicKey():
            return ec.generate_private_key(public_key.curve)
        case ed25519.Ed25519PublicKey():
            return ed25519.Ed25519PrivateKey.generate()
        case mldsa.MLDSA44PublicKey():
            return mldsa.MLDSA44PrivateKey.generate()
        case mldsa.MLDSA65PublicKey():
            return mldsa.MLDSA65PrivateKey.generate()
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def hash_of(public_key: CertifiedKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """Return the hash that signatures of a key take: as strong as its curve (NIST SP 800-57-1 5.6.1)."""
    match public_key:
        # RFC 8032 and FIPS 204 take the message whole.
        case ed25519.Ed25519PublicKey() | mldsa.MLDSA44PublicKey() | mldsa.MLDSA65PublicKey():
            return None
        case ec.EllipticCurvePublicKey() if public_key.key_size > 256:
            return hashes.SHA384()
        case _:
            return hashes.SHA256()


def sign_message(key: PrivateKey, message: bytes) -> bytes:
    """Return the signature that X.509 wants of this key."""
    match key:
        case ed25519.Ed25519PrivateKey() | mldsa.MLDSA44PrivateKey() | mldsa.MLDSA65PrivateKey():
            return key.sign(message)
        case ec.EllipticCurvePrivateKey():
            return key.sign(message, ec.ECDSA(hash_of(key.public_key()) or hashes.SHA256()))
        case _:
            return key.sign(message, PKCS1v15(), hashes.SHA256())


def is_signed(public_key: CertifiedKey, signature: bytes, message: bytes) -> bool:
    """Tell whether a signature as `sign_message` makes it is of this key."""
    try:
        match public_key:
            case ed25519.Ed25519PublicKey() | mldsa.MLDSA44PublicKey() | mldsa.MLDSA65PublicKey():
                public_key.verify(signature, message)
            case ec.EllipticCurvePublicKey():
                public_key.verify(signature, message, ec.ECDSA(hash_of(public_key) or hashes.SHA256()))
            case _:
                public_key.verify(signature, message, PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def sign_instead(encoded: bytes, signer: Signer, *, public_key: CertifiedKey) -> bytes:
    """Return a certificate of ours under the signer's signature in place of the one that it has.

    The to-be-signed bytes stay as they are, so that what was inspected is what gets signed.
    `public_key` is that of the issuing CA's certificate.

    Raises:
        FleetError: the key cannot be used, or its signature does not verify.
    """
    tbs, algorithm, _ = der.elements(encoded)
    return der.signed(
        tbs, algorithm=algorithm, signature=checked_signature(tbs, signer, public_key=public_key)
    )


def checked_signature(message: bytes, signer: Signer, *, public_key: CertifiedKey) -> bytes:
    """Return the signer's signature over a message.

    Raises:
        FleetError: the key cannot be used, or its signature does not verify.
    """
    signature = signer.sign(message)
    # A signer that computes wrongly (a fault, a failing token) may give its key away with the result.
    if not is_signed(public_key, signature, message):
        raise FleetError(
            "an issuing key made a signature that does not verify",
            hint="check the key's file or token; nothing was issued",
        )
    return signature


def issuing_passphrase(file: Path, *, environment: Mapping[str, str]) -> Secret:
    """Return what opens the issuing keys: the systemd credential if there is one, else the 0600 file.

    Raises:
        NotFoundError, BadInputError: neither is there, or it is not safe.
    """
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder and (credential := Path(folder) / CREDENTIAL).exists():
        return read_secret(credential, closed=_CREDENTIAL_CLOSED)
    try:
        return read_secret(file)
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no passphrase for the issuing keys: {file} is not there",
            hint=f"put it back with mode 600, or give the unit LoadCredential={CREDENTIAL}:PATH",
        ) from error


def load_key(path: Path, *, passphrase: Secret | None) -> PrivateKey:
    """Read a private key from a PEM file that only its owner can read.

    Raises:
        NotFoundError, BadInputError: the file is not there, not safe, or the passphrase is wrong.
    """
    content = read_secret_bytes(path)
    try:
        key = load_pem_private_key(content, None if passphrase is None else passphrase.reveal().encode())
    except TypeError as error:
        state = "is encrypted" if passphrase is None else "is not encrypted"
        raise BadInputError(f"{path} {state}", hint="restore it from the backup") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInputError(
            f"{path} cannot be opened: wrong passphrase, or not a private key",
            hint="give the passphrase that was set when the fleet home was made",
        ) from error
    if isinstance(key, PrivateKey):
        return key
    raise BadInputError(f"{path} holds a key of a type that is not used here", hint="use a P-256 key")


def plain_pem(key: PrivateKey) -> bytes:
    """Return PKCS#8 PEM without encryption, for servers that must start unattended. Write it 0600."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted_pem(key: PrivateKey, passphrase: Secret, *, randomness: bytes, work_factor: int) -> bytes:
    """Return PKCS#8 PEM, encrypted by PBES2 with scrypt and AES-256-CBC (RFC 8018 6.2, RFC 7914 7).

    `randomness` is 32 octets: salt, then IV. scrypt's N is 2 to the `work_factor`, with r 8 and p 1:
    14 takes 16 MiB, as `openssl pkcs8 -scrypt` does.
    """
    salt, iv = randomness[:_SALT_BYTES], randomness[_SALT_BYTES:]
    cost = 1 << work_factor
    derived = hashlib.scrypt(
        passphrase.reveal().encode(),
        salt=salt, n=cost, r=_SCRYPT_R, p=_SCRYPT_P, dklen=32, maxmem=256 * cost * _SCRYPT_R,
    )  # fmt: skip
    padder = padding.PKCS7(128).padder()
    clear = padder.update(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    encryptor = Cipher(algorithms.AES256(derived), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(clear + padder.finalize()) + encryptor.finalize()
    kdf = der.sequence(
        der.tlv(der.OCTET_STRING, salt), der.integer(cost), der.integer(_SCRYPT_R), der.integer(_SCRYPT_P)
    )
    parameters = der.sequence(
        der.sequence(_SCRYPT, kdf), der.sequence(_AES_256_CBC, der.tlv(der.OCTET_STRING, iv))
    )
    info = der.sequence(der.sequence(_PBES2, parameters), der.tlv(der.OCTET_STRING, sealed))
    return der.pem("ENCRYPTED PRIVATE KEY", info)
