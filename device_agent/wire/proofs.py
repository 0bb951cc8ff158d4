"""The exact bytes that are signed: recovery proofs by a device, the time by the server.

Each text starts with a word of its own, so that a signature for one purpose never serves another.
"""

_RECOVER = b"fleet-recover-v1"
_TIME = b"fleet-time-v1"


def recovery_text(*, fleet: str, domain: str, nonce: str, request: bytes) -> bytes:
    """Return what the old key signs to be heard without a valid certificate.

    `nonce` is the hex text that the server gave; `request` the exact JSON of a renew, confirm or status.
    No part but the last can hold a NUL, so no two different proofs have the same text.
    """
    return b"\0".join((_RECOVER, fleet.encode(), domain.encode(), nonce.encode(), request))


def time_proof_text(*, fleet: str, domain: str, nonce: bytes, now: str) -> bytes:
    """Return what the domain's time key signs; `now` is the RFC 3339 text of the reply."""
    return b"\0".join((_TIME, fleet.encode(), domain.encode(), nonce.hex().encode(), now.encode()))
