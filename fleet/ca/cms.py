"""A private key on its way to the one who may have it: signed, then encrypted to a certificate (RFC 5652).

RFC 5958 asks for this nesting: EnvelopedData of SignedData of an AsymmetricKeyPackage. Only what is sent is
written here; nothing from outside is read.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fleet.ca import der
from fleet.ca.signers import PrivateKey, Signer, hash_of
from fleet.errors import RefusedError

RANDOM_BYTES = 48
"""A content key of AES-256, then its initialisation vector."""

_SET = 0x31
_NULL = bytes.fromhex("0500")
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")  # RFC 5652 5.1
_ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")  # RFC 5652 6.1
_KEY_PACKAGE = bytes.fromhex("060a60864801650201024e05")  # RFC 5958 2
_CONTENT_TYPE = bytes.fromhex("06092a864886f70d010903")  # RFC 5652 11.1
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")  # RFC 5652 11.2
_SHA256 = bytes.fromhex("0609608648016503040201")  # RFC 5754 2.2
_SHA384 = bytes.fromhex("0609608648016503040202")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")  # RFC 3565 4.1
_AES_256_WRAP = der.sequence(bytes.fromhex("060960864801650304012d"))  # RFC 3565 4.2
_OAEP = bytes.fromhex("06092a864886f70d010107")  # RFC 3560 2.1
_MGF1 = bytes.fromhex("06092a864886f70d010108")
_ECDH_SHA256 = bytes.fromhex("06062b8104010b01")  # RFC 5753 7.1.4: stdDH with the KDF on SHA-256
_ECDSA = {256: bytes.fromhex("06082a8648ce3d040302"), 384: bytes.fromhex("06082a8648ce3d040303")}
_RSA_SHA256 = der.sequence(bytes.fromhex("06092a864886f70d01010b"), _NULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who made the key, and signs that."""

    certificate: x509.Certificate
    signer: Signer


def sealed_key(key: PrivateKey, *, sender: Sender, recipient: x509.Certificate, randomness: bytes) -> bytes:
    """Return a private key as CMS EnvelopedData, DER, that only the recipient's key opens.

    `randomness` has `RANDOM_BYTES` octets, never used before.

    Raises:
        RefusedError: the recipient's key can sign, but not decrypt or agree on a key.
    """
    package = der.sequence(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    inner = _signed(package, sender)
    content_key, vector = randomness[:32], randomness[32:]
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(content_key), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(padder.update(inner) + padder.finalize()) + encryptor.finalize()
    return _content_info(
        _ENVELOPED_DATA,
        der.sequence(
            der.integer(2),  # RFC 5652 6.1: recipients are told by more than version 0
            der.tlv(_SET, _recipient(recipient, content_key)),
            der.sequence(
                _SIGNED_DATA,
                der.sequence(_AES_256_CBC, der.tlv(der.OCTET_STRING, vector)),
                der.tlv(0x80, encrypted),
            ),
        ),
    )


def key_identifier(certificate: x509.Certificate) -> bytes:
    """Return the subject key identifier of a certificate, or what RFC 5280 4.2.1.2 (1) makes it."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def _signed(package: bytes, sender: Sender) -> bytes:
    """Return SignedData (RFC 5652 5.1) over a key package, with the sender's certificate."""
    digest_name, algorithm = _algorithms(sender.signer)
    digest = hashes.Hash(_hash(sender.signer))
    digest.update(package)
    # X.690 11.6: the elements of a SET stand in the order of their encodings.
    attributes = b"".join(
        sorted(
            (
                der.sequence(_CONTENT_TYPE, der.tlv(_SET, _KEY_PACKAGE)),
                der.sequence(_MESSAGE_DIGEST, der.tlv(_SET, der.tlv(der.OCTET_STRING, digest.finalize()))),
            )
        )
    )
    signer_info = der.sequence(
        der.integer(1),
        _issuer_and_serial(sender.certificate),
        der.sequence(digest_name),
        der.tlv(0xA0, attributes),
        algorithm,
        # RFC 5652 5.4: what is signed is the SET, not the implicit tag that it travels under.
        der.tlv(der.OCTET_STRING, sender.signer.sign(der.tlv(_SET, attributes))),
    )
    return der.sequence(
        der.integer(3),  # RFC 5652 5.1: the content is not id-data
        der.tlv(_SET, der.sequence(digest_name)),
        der.sequence(_KEY_PACKAGE, der.tlv(0xA0, der.tlv(der.OCTET_STRING, package))),
        der.tlv(0xA0, sender.certificate.public_bytes(Encoding.DER)),
        der.tlv(_SET, signer_info),
    )


def _hash(signer: Signer) -> hashes.SHA256 | hashes.SHA384:
    return hash_of(signer.public_key) or hashes.SHA256()


def _algorithms(signer: Signer) -> tuple[bytes, bytes]:
    """Return the digest's OID, and the AlgorithmIdentifier of the signature."""
    match signer.public_key:
        case ec.EllipticCurvePublicKey():
            bits = 8 * _hash(signer).digest_size
            return (_SHA256 if bits == 256 else _SHA384), der.sequence(_ECDSA[bits])
        case rsa.RSAPublicKey():
            return _SHA256, _RSA_SHA256
        case _:
            raise RefusedError("the server's key is of a type that signs no key on its way")


def _recipient(certificate: x509.Certificate, content_key: bytes) -> bytes:
    match certificate.public_key():
        case rsa.RSAPublicKey() as public_key:
            return _transported(certificate, public_key, content_key)
        case ec.EllipticCurvePublicKey() as public_key:
            return _agreed(certificate, public_key, content_key)
        case _:
            raise RefusedError("a key can be sent only to an RSA or elliptic-curve key, which decrypts it")


def _transported(certificate: x509.Certificate, public_key: rsa.RSAPublicKey, content_key: bytes) -> bytes:
    """Return KeyTransRecipientInfo by RSAES-OAEP with SHA-256 (RFC 3560 2.2)."""
    sha256 = der.sequence(_SHA256, _NULL)
    parameters = der.sequence(der.tlv(0xA0, sha256), der.tlv(0xA1, der.sequence(_MGF1, sha256)))
    oaep = OAEP(mgf=MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    return der.sequence(
        der.integer(0),
        _issuer_and_serial(certificate),
        der.sequence(_OAEP, parameters),
        der.tlv(der.OCTET_STRING, public_key.encrypt(content_key, oaep)),
    )


def _agreed(
    certificate: x509.Certificate, public_key: ec.EllipticCurvePublicKey, content_key: bytes
) -> bytes:
    """Return KeyAgreeRecipientInfo by ephemeral-static ECDH (RFC 5753 3.1)."""
    ephemeral = ec.generate_private_key(public_key.curve)
    shared = ephemeral.exchange(ec.ECDH(), public_key)
    # RFC 5753 7.2: ECC-CMS-SharedInfo, with the length of the wrapping key in bits.
    length = der.tlv(0xA2, der.tlv(der.OCTET_STRING, (256).to_bytes(4, "big")))
    kdf = X963KDF(algorithm=hashes.SHA256(), length=32, sharedinfo=der.sequence(_AES_256_WRAP, length))
    algorithm, point = der.elements(
        ephemeral.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    wrapped = der.tlv(der.OCTET_STRING, aes_key_wrap(kdf.derive(shared), content_key))
    return der.tlv(
        0xA1,
        der.integer(3)
        + der.tlv(0xA0, der.tlv(0xA1, algorithm + point))
        + der.sequence(_ECDH_SHA256, _AES_256_WRAP)
        + der.sequence(der.sequence(_issuer_and_serial(certificate), wrapped)),
    )


def _issuer_and_serial(certificate: x509.Certificate) -> bytes:
    return der.sequence(certificate.issuer.public_bytes(), der.integer(certificate.serial_number))


def _content_info(kind: bytes, inside: bytes) -> bytes:
    return der.sequence(kind, der.tlv(0xA0, inside))
