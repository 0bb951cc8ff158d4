"""The broker's second layer: CRLs that are parsed, verified, swapped, and proven to be read.

A broker that finds garbage in its CRL file may go on with no revocation check at all; so nothing unverified
ever gets there, and afterwards a canary, revoked at birth, must be turned away by TLS itself. The CRLs
of a broker list for-cause revocations only: a refusal inside TLS never reaches the guard as evidence.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import serial_hex
from fleet.broker.settings import CanaryFiles
from fleet.core.causes import CANARY
from fleet.errors import BadInputError, FleetError, NeedsAttentionError, UnreachableError

MOST_BYTES = 16 * 1024 * 1024
MOST_ENTRIES = 10_000
"""In one listener's file: each handshake reads it."""
_PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrlFile:
    """One listener's CRL file, and the issuing CAs whose CRLs must stand in it."""

    path: Path
    issuers: tuple[x509.Certificate, ...]


def read_issuers(path: Path) -> tuple[x509.Certificate, ...]:
    """Return the issuing CAs of a PEM bundle.

    Raises:
        FleetError: it cannot be read.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise FleetError(f"{path} is no bundle of certificates", hint="restore it from a backup") from error


def verified(
    crls: Sequence[bytes], issuers: Sequence[x509.Certificate], *, now: datetime
) -> Mapping[x509.Name, x509.CertificateRevocationList]:
    """Return the CRL of each issuing CA, each with a good signature and in its time (RFC 5280 6.3.3).

    Raises:
        BadInputError: one is malformed, forged, stale, or missing.
    """
    by_issuer: dict[x509.Name, x509.CertificateRevocationList] = {}
    for der in crls:
        crl = _parse(der)
        issuer = next((one for one in issuers if one.subject == crl.issuer and _signed(crl, one)), None)
        if issuer is not None:
            _check_time(crl, now)
            by_issuer[issuer.subject] = crl
        elif any(one.subject == crl.issuer for one in issuers):
            raise BadInputError(f"the CRL of {crl.issuer.rfc4514_string()} has a bad signature")
    for issuer in issuers:
        if issuer.subject not in by_issuer:
            name = issuer.subject.rfc4514_string()
            raise BadInputError(f"there is no CRL of {name}", hint="without it the broker refuses its leaves")
    return by_issuer


def file_text(file: CrlFile, by_issuer: Mapping[x509.Name, x509.CertificateRevocationList]) -> bytes:
    """Return what a listener's CRL file holds: PEM, one CRL for each issuing CA.

    Raises:
        BadInputError: it would slow every handshake down.
    """
    entries = sum(len(by_issuer[issuer.subject]) for issuer in file.issuers)
    if entries > MOST_ENTRIES:
        raise BadInputError(f"a broker's CRL file holds at most {MOST_ENTRIES} entries, not {entries}")
    return b"".join(by_issuer[issuer.subject].public_bytes(Encoding.PEM) for issuer in file.issuers)


def revoked_keys(
    by_issuer: Mapping[x509.Name, x509.CertificateRevocationList], issuers: Sequence[x509.Certificate]
) -> frozenset[tuple[str, str]]:
    """Return issuer (key identifier) and serial of every certificate that the CRLs name."""
    return frozenset(
        (_key_identifier(issuer), serial_hex(entry.serial_number))
        for issuer in issuers
        for entry in by_issuer[issuer.subject]
    )


def _key_identifier(issuer: x509.Certificate) -> str:
    return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()


def _parse(der: bytes) -> x509.CertificateRevocationList:
    if len(der) > MOST_BYTES:
        raise BadInputError(
            f"a CRL of more than {MOST_BYTES} bytes slows every handshake down; rotate its CA"
        )
    try:
        crl = x509.load_der_x509_crl(der)
        _ = crl.issuer, crl.last_update_utc, crl.next_update_utc, len(crl)
    except ValueError as error:
        raise BadInputError("a CRL is malformed") from error
    return crl


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        return False
    try:
        return crl.is_signature_valid(key)
    except (TypeError, UnsupportedAlgorithm):
        return False


def _check_time(crl: x509.CertificateRevocationList, now: datetime) -> None:
    name, end = crl.issuer.rfc4514_string(), crl.next_update_utc
    if crl.last_update_utc > now or end is None or end <= now:
        raise BadInputError(
            f"the CRL of {name} is not in its time", hint="issue a fresh one; check the clock of this machine"
        )


def _own_place(address: str) -> tuple[str, int] | None:
    """Return from where a broker of this machine is asked, so that its log tells our canary from others."""
    return (CANARY, 0) if address.startswith("127.") else None


async def probe(canary: CanaryFiles, *, address: str, port: int, host: str, trust: Path) -> None:
    """Show the canary to the broker; return if TLS turned it away as revoked.

    Raises:
        NeedsAttentionError: it was let in, or turned away for another reason.
        UnreachableError: the broker does not answer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Under TLS 1.3 the client's handshake ends before the server has judged it (RFC 8446 4.4.2.4).
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=trust)
        context.load_cert_chain(canary.certificate, canary.key)
    except (OSError, ssl.SSLError) as error:
        raise NeedsAttentionError(f"the canary certificate {canary.certificate} cannot be used") from error
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(
                address, port, ssl=context, server_hostname=host, local_addr=_own_place(address)
            )
    except ssl.SSLError as error:
        if "REVOKED" in (error.reason or ""):
            return
        raise NeedsAttentionError(
            f"the broker turned the canary away for another reason than its CRL: {error.reason}"
        ) from error
    except (OSError, TimeoutError) as error:
        raise UnreachableError("the broker did not answer the canary") from error
    writer.transport.abort()
    raise NeedsAttentionError(
        "the broker reads no CRL: TLS let a revoked certificate through",
        hint="see broker/mosquitto.log in the fleet home; the allowlist still holds",
    )
