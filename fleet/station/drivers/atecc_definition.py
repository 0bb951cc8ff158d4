"""Tells the firmware of esp-cryptoauth-utility where things stand in a certificate: its `provide-cert-def`.

Nine pairs of offset and count, each four digits, then the certificate as hex. An ATECC keeps 72 octets of a
certificate: the signature, and its dates by the hour. So what never changes there is left to the template.
"""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.ca.der import BIT_STRING, SEQUENCE, tlv
from fleet.ca.der_reader import DerReader
from fleet.station.drivers.console import ConsoleError
from fleet.station.link.causes import Cause

LONGEST = 1199
"""What the firmware's buffer takes, of a definition and of a certificate in PEM."""

_NOTHING = (0, 0)
_UTC_TIME = 0x17
_HEADER_OCTETS = 2


def definition_of(der: bytes) -> str:
    """Return the definition of a certificate; raises `ConsoleError` where the firmware cannot take it."""
    certificate = x509.load_der_x509_certificate(der)
    point = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)[-64:]
    signature = tlv(BIT_STRING, b"\0" + certificate.signature)
    # RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from then on.
    begun = tlv(_UTC_TIME, f"{certificate.not_valid_before_utc:%y%m%d%H%M%SZ}".encode())
    if begun not in der:
        raise ConsoleError("the firmware takes no certificate that begins after 2049", cause=Cause.NONE)
    whole = DerReader(der).inside(SEQUENCE).whole(SEQUENCE)
    places = (
        (der.index(point), len(point)),
        (len(der) - len(signature), len(signature)),
        (der.index(begun) + _HEADER_OCTETS, len(begun) - _HEADER_OCTETS),
        *(_NOTHING,) * 5,  # expiry, signer id, serial, both key ids: as in the template
        (der.index(whole), len(whole)),
    )
    definition = "".join(f"{offset:04d}{count:04d}" for offset, count in places) + der.hex()
    if len(definition) > LONGEST:
        raise ConsoleError(
            f"a certificate of {len(der)} bytes does not fit into the firmware's buffer", cause=Cause.NONE
        )
    return definition
