"""Mends requests of modems that write NULL behind the algorithm of a signature, against RFC 5758 3.2.

That stands outside of what is signed, so the signature stays good.
"""

from device_agent.wire.problems import MalformedMessageError
from fleet.ca.der import BIT_STRING, NULL, SEQUENCE, object_identifier, sequence, tlv
from fleet.ca.der_reader import DerReader, NotDerError

_ECDSA_WITH_SHA256 = object_identifier("1.2.840.10045.4.3.2")


def without_null_parameters(csr: bytes) -> bytes:
    """Return a DER request with the algorithm of its signature as the standard has it; others as they are.

    Raises:
        MalformedMessageError: it is no request.
    """
    try:
        outer = DerReader(csr)
        parts = outer.inside(SEQUENCE)
        outer.end()
        info, algorithm, signature = parts.whole(SEQUENCE), parts.content(SEQUENCE), parts.content(BIT_STRING)
        parts.end()
    except NotDerError as error:
        raise MalformedMessageError("request must be PKCS#10") from error
    if algorithm != _ECDSA_WITH_SHA256 + NULL:
        return csr
    return sequence(info, sequence(_ECDSA_WITH_SHA256), tlv(BIT_STRING, signature))
