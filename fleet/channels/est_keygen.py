"""Keys that are made here, for devices that cannot make good ones (RFC 7030 4.4), where a profile says so.

Such a key leaves encrypted to a key that the device has already, and shows by its certificate; it is written
nowhere. A request that does not ask for that is refused, for over TLS alone every proxy would have the key.
"""

import base64
import hmac
from dataclasses import dataclass
from http import HTTPStatus

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from cryptography.x509.oid import NameOID

from device_agent.wire.problems import ProblemCode
from fleet.ca.cms import Sender, key_identifier, sealed_key
from fleet.ca.loading import load_certificate
from fleet.ca.signers import FileSigner
from fleet.core.goodkey import certified_key
from fleet.core.unreadable import UNREADABLE
from fleet.errors import RefusedError
from fleet.exchange import HttpAnswer
from fleet.home import Home
from fleet.pair_files import in_force

BOUNDARY = "fleet-est-serverkeygen"
"""Not a character of it is in base64, so that no part can hold it."""

# AsymmetricDecryptKeyIdentifier (RFC 7030 4.4.1.2).
_DECRYPT_WITH = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.54")
_KEY_TYPE = "application/pkcs7-mime; smime-type=server-generated-key"
_CERTIFICATE_TYPE = "application/pkcs7-mime; smime-type=certs-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeKey:
    """A key for a device, the request for its certificate, and who alone may have it."""

    key: ec.EllipticCurvePrivateKey
    csr: str
    """PEM."""
    recipient: x509.Certificate


def make_key(request_pem: str, *, shown: bytes | None, device_id: str) -> MadeKey:
    """Make a P-256 key in the name of a device; `shown` is its certificate, DER, as TLS has verified it.

    Raises:
        RefusedError: the request does not ask for the key to be encrypted to the certificate's key.
    """
    if shown is None:
        raise RefusedError("TLS must show a certificate of the device's own: the key is encrypted to it")
    recipient = x509.load_der_x509_certificate(shown)
    if not hmac.compare_digest(_wanted(request_pem), key_identifier(recipient)):
        raise _refusal("the key is encrypted to the certificate of the connection, and this asks for another")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return MadeKey(key=key, csr=csr.public_bytes(Encoding.PEM).decode(), recipient=recipient)


def sender_of(home: Home) -> Sender:
    """Return the server of a home as the sender of keys: its own certificate, and the key behind it.

    Raises:
        NotFoundError, BadInputError: they cannot be read.
    """
    files = in_force(home.server)
    certificate = load_certificate(files.certificate)
    public_key = certified_key(certificate.public_key())
    return Sender(
        certificate=certificate, signer=FileSigner(files.key, passphrase=None, public_key=public_key)
    )


def delivered(made: MadeKey, certificate_pem: str, *, sender: Sender, randomness: bytes) -> HttpAnswer:
    """Return the key and its certificate in two parts (RFC 7030 4.4.2)."""
    sealed = sealed_key(made.key, sender=sender, recipient=made.recipient, randomness=randomness)
    leaf = x509.load_pem_x509_certificate(certificate_pem.encode())
    parts = ((_KEY_TYPE, sealed), (_CERTIFICATE_TYPE, serialize_certificates([leaf], Encoding.DER)))
    body = b"".join(_part(media_type, content) for media_type, content in parts)
    return HttpAnswer(
        status=HTTPStatus.OK,
        content_type=f"multipart/mixed; boundary={BOUNDARY}",
        body=body + f"--{BOUNDARY}--\r\n".encode(),
        headers={"Cache-Control": "no-store"},
    )


def _wanted(request_pem: str) -> bytes:
    """Return the identifier of the key that the device will decrypt with."""
    try:
        attributes = x509.load_pem_x509_csr(request_pem.encode()).attributes
        return attributes.get_attribute_for_oid(_DECRYPT_WITH).value
    except x509.AttributeNotFound as error:
        raise _refusal("the request must name the key to encrypt to") from error
    except UNREADABLE as error:
        raise _refusal("the attributes of the request cannot be read") from error


def _part(media_type: str, content: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + base64.b64encode(content) + b"\r\n"


def _refusal(message: str) -> RefusedError:
    return RefusedError(message, hint="RFC 7030 4.4.1.2", code=ProblemCode.BAD_CSR)
