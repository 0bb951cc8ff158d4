"""The exact bytes that are signed: recovery proofs by a device, the time by the server, trust by a root.

Each text starts with a word of its own, so that a signature for one purpose never serves another.
"""

import hashlib
from collections.abc import Sequence

_RECOVER = b"fleet-recover-v1"
_TIME = b"fleet-time-v1"
_IDEVID = b"fleet-idevid-v1"
_TPM = b"fleet-tpm-v1"
_TRUST = b"fleet-trust-v1"


def recovery_text(*, fleet: str, domain: str, nonce: str, request: bytes) -> bytes:
    """Return what the old key signs to be heard without a valid certificate.

    `nonce` is the hex text that the server gave; `request` the exact JSON of a renew, confirm or status.
    No part but the last can hold a NUL, so no two different proofs have the same text.
    """
    return b"\0".join((_RECOVER, fleet.encode(), domain.encode(), nonce.encode(), request))


def time_proof_text(*, fleet: str, domain: str, nonce: bytes, now: str) -> bytes:
    """Return what the domain's time key signs; `now` is the RFC 3339 text of the reply."""
    return b"\0".join((_TIME, fleet.encode(), domain.encode(), nonce.hex().encode(), now.encode()))


def trust_text(*, fleet: str, realm: str, version: int, anchors: Sequence[str]) -> bytes:
    """Return what a root signs of a trust bundle; `anchors` are hex SHA-256 of their DER, in their order."""
    return b"\0".join(
        (_TRUST, fleet.encode(), realm.encode(), str(version).encode(), *map(str.encode, anchors))
    )


def idevid_text(*, fleet: str, domain: str, device_id: str, nonce: str, key_hash: str) -> bytes:
    """Return what the key of a manufacturer's certificate signs: this device asks, now, for this new key.

    `nonce` is the hex text of the server's challenge; `key_hash` the hex SHA-256 of the SubjectPublicKeyInfo
    that the request asks a certificate for.
    """
    parts = (fleet, domain, device_id, nonce, key_hash)
    return b"\0".join((_IDEVID, *(part.encode() for part in parts)))


def tpm_qualifying_data(*, fleet: str, domain: str, device_id: str, nonce: str) -> bytes:
    """Return the qualifyingData of TPM2_Certify (TPM 2.0 Library Part 3, 18.2): 32 bytes.

    The key itself is in what the TPM signs: its name stands beside this.
    """
    parts = (fleet, domain, device_id, nonce)
    return hashlib.sha256(b"\0".join((_TPM, *(part.encode() for part in parts)))).digest()
