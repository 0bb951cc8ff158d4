"""Requests as EST wants them (RFC 7030 4.2): the names of the certificate that is renewed, and the proof
that whoever holds the key is at the other end of this very TLS connection, where TLS can give it.

It makes bytes; what of it a server looks at is the server's own.
"""

import base64
from collections.abc import Callable

from cryptography import x509

from device_agent.core.certificates import UNREADABLE
from device_agent.core.csr import request_der, tlv
from device_agent.wire.problems import MalformedMessageError

CHALLENGE_PASSWORD = bytes.fromhex("06092a864886f70d010907")
"""OID by which a server asks for the link, and in which it comes (RFC 7030 3.5, RFC 2985 5.4.1)."""

_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")  # RFC 2985 5.4.2
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")


def request(
    subject: bytes,
    alternatives: bytes,
    *,
    public_key_der: bytes,
    sign: Callable[[bytes], bytes],
    link: bytes = b"",
) -> bytes:
    """Return a PKCS#10 request, DER.

    Args:
        subject: a DER Name.
        alternatives: DER of GeneralNames, empty for none.
        public_key_der: as `csr.csr_der` has it, with `sign`.
        sign: signs the request.
        link: tls-unique of the connection (RFC 5929 3), empty where there is none.
    """
    attributes: list[bytes] = []
    if alternatives:
        extension = tlv(0x30, _SUBJECT_ALT_NAME + tlv(0x04, alternatives))
        attributes.append(tlv(0x30, _EXTENSION_REQUEST + tlv(0x31, tlv(0x30, extension))))
    if link:
        # RFC 7030 3.5: base64, as a PrintableString.
        attributes.append(tlv(0x30, CHALLENGE_PASSWORD + tlv(0x31, tlv(0x13, base64.b64encode(link)))))
    return request_der(subject, public_key_der=public_key_der, sign=sign, attributes=attributes)


def names_of(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    """Return subject and subjectAltName, DER, as a re-enrollment repeats them (RFC 7030 4.2.2).

    Raises:
        MalformedMessageError: they cannot be read.
    """
    try:
        subject = certificate.subject.public_bytes()
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return subject, found.value.public_bytes()
    except x509.ExtensionNotFound:
        return subject, b""
    except UNREADABLE as error:
        raise MalformedMessageError("the names of the certificate cannot be read") from error
