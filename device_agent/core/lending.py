"""What a key that is lent for signing must never sign: whatever would speak to a server as the device.

A digest could be anything, so only whole messages are signed. What this cannot recognise is left to whom
the key is lent: other protocols' signatures (IKEv2, SSH) look like any data.
"""

_RESERVED = b"fleet-"
"""Every text that this fleet's own proofs sign begins so (`wire.proofs`)."""
_TLS13 = b" " * 64
"""RFC 8446 4.4.3: what CertificateVerify signs begins with 64 spaces."""
_DER_SEQUENCE = 0x30
_CLIENT_HELLO = 1
_TLS12_VERSION = b"\x03\x03"
_DTLS12_VERSION = b"\xfe\xfd"


def reason_against(message: bytes) -> str | None:
    """Return why a message must not be signed for another program; None where it may be."""
    if message.startswith(_RESERVED):
        return "it begins as this fleet's own proofs do"
    if message.startswith(_TLS13):
        return "it begins as a TLS 1.3 signature does"
    if _is_tls12(message):
        return "it begins as a TLS 1.2 handshake does"
    if _is_der_sequence(message):
        return "it is a DER sequence, as certificates and requests are"
    return None


def _is_tls12(message: bytes) -> bool:
    """RFC 5246 7.4.8: all handshake messages, from the ClientHello on; RFC 6347 4.2.2 for DTLS."""
    is_hello = message[:1] == bytes([_CLIENT_HELLO])
    return is_hello and (message[4:6] == _TLS12_VERSION or message[12:14] == _DTLS12_VERSION)


def _is_der_sequence(message: bytes) -> bool:
    """X.690 8.1.3: one SEQUENCE that fills the message, whatever its length looks like."""
    if len(message) < 2 or message[0] != _DER_SEQUENCE:
        return False
    first, rest = message[1], message[2:]
    if first < 0x80:
        return len(rest) == first
    size = first & 0x7F
    return len(rest) == size + int.from_bytes(rest[:size], "big")
