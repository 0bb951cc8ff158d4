"""A key that the station makes for a device which cannot make one: lower assurance, and never kept.

It lives in memory for one visit. Nothing here writes it to a disk, a log or an exception.
"""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet.model import KeyOrigin
from fleet.station.drivers.course import Request


class HostKey:
    """A key that the station made for one device, and knows for one visit."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def __repr__(self) -> str:
        return "HostKey(...)"

    def request(self, device_id: str) -> Request:
        """Return a request for the key."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        return Request(csr=csr.public_bytes(Encoding.DER), key=KeyOrigin.HOST)

    def pem(self) -> str:
        """Return the key, for the device alone."""
        octets = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return octets.decode().rstrip()

    def der(self) -> bytes:
        """Return the key, for the device alone."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
