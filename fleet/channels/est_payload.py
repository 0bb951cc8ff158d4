"""What EST carries over HTTP (RFC 7030 4, RFC 8951 3): base64 of DER, in and out.

One form goes out, the only one that all clients in use take: one line, a newline at its end, and a
Content-Transfer-Encoding that says base64. What comes in is base64 whatever that header says (RFC 8951 3.1).
"""

import base64
import binascii
from collections.abc import Sequence
from http import HTTPStatus

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from fleet.ca import der
from fleet.core.goodkey import KeyType
from fleet.exchange import HttpAnswer

CSR_TYPE = "application/pkcs10"
CERTS_ONLY_TYPE = "application/pkcs7-mime; smime-type=certs-only"
CSR_ATTRIBUTES_TYPE = "application/csrattrs"

# RFC 4648 3.3: other characters are refused, but that lines may be broken and end as they like.
_LINE_NOISE = bytes.maketrans(b"", b""), b" \t\r\n"

_EC_PUBLIC_KEY = "06072a8648ce3d0201"
_WISHES: dict[KeyType, tuple[bytes, ...]] = {
    # A key type is an attribute, a signature algorithm an OID (RFC 7030 4.5.2); OIDs as in RFC 5480, 8410.
    KeyType.P256: (
        der.sequence(bytes.fromhex(_EC_PUBLIC_KEY), der.tlv(0x31, bytes.fromhex("06082a8648ce3d030107"))),
        bytes.fromhex("06082a8648ce3d040302"),  # ecdsa-with-SHA256
    ),
    KeyType.P384: (
        der.sequence(bytes.fromhex(_EC_PUBLIC_KEY), der.tlv(0x31, bytes.fromhex("06052b81040022"))),
        bytes.fromhex("06082a8648ce3d040303"),  # ecdsa-with-SHA384
    ),
    KeyType.ED25519: (bytes.fromhex("06032b6570"),),
    KeyType.RSA: (
        der.sequence(bytes.fromhex("06092a864886f70d010101"), der.tlv(0x31, der.integer(2048))),
        bytes.fromhex("06092a864886f70d01010b"),  # sha256WithRSAEncryption
    ),
    # RFC 9881 2: one OID is the key's and the signature's.
    KeyType.ML_DSA_44: (bytes.fromhex("0609608648016503040311"),),
    KeyType.ML_DSA_65: (bytes.fromhex("0609608648016503040312"),),
}
"""The better first."""


class UnfitBodyError(ValueError):
    """A body that holds no request; its text is for the client, and repeats nothing of the body."""

    def __init__(self, text: str, *, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


def csr_pem_of(content_type: str, body: bytes) -> str:
    """Return the PKCS#10 request of a body, as PEM; that it is one, nobody has looked at yet.

    Raises:
        UnfitBodyError: it is of another type, or no base64.
    """
    if content_type.partition(";")[0].strip().lower() != CSR_TYPE:
        raise UnfitBodyError(f"Content-Type must be {CSR_TYPE}", status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    text = body.translate(*_LINE_NOISE)
    if not text:
        raise UnfitBodyError("the body is empty")
    try:
        request = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise UnfitBodyError("the body must be base64 of a DER request, without PEM lines") from error
    return der.pem("CERTIFICATE REQUEST", request).decode()


def certs_only(certificates: Sequence[x509.Certificate]) -> HttpAnswer:
    """Return certificates as a certs-only CMC simple response (RFC 7030 4.1.3, 4.2.3).

    The order is lost: DER sorts a SET. A client finds its leaf by its key.
    """
    return _encoded(CERTS_ONLY_TYPE, serialize_certificates(list(certificates), Encoding.DER))


def csr_attributes(allowed: frozenset[KeyType]) -> HttpAnswer:
    """Return the wish for the best key type that is allowed (RFC 7030 4.5.2); others are taken as well."""
    wishes = next((wish for key_type, wish in _WISHES.items() if key_type in allowed), ())
    return _encoded(CSR_ATTRIBUTES_TYPE, der.sequence(*wishes))


def text(status: HTTPStatus, detail: str, **headers: str) -> HttpAnswer:
    """Return a short text for people; `headers` are named with `_` for `-`."""
    return HttpAnswer(
        status=status,
        content_type="text/plain; charset=utf-8",
        body=f"{detail}\n".encode(),
        headers={"Cache-Control": "no-store"}
        | {name.replace("_", "-"): value for name, value in headers.items()},
    )


def _encoded(content_type: str, content: bytes) -> HttpAnswer:
    return HttpAnswer(
        status=HTTPStatus.OK,
        content_type=content_type,
        body=base64.b64encode(content) + b"\n",
        headers={"Content-Transfer-Encoding": "base64", "Cache-Control": "no-store"},
    )
