"""Time keys of a test fleet, and times that they sign: right ones, and wrong ones where asked for."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.wire.fields import time_text
from device_agent.wire.proofs import time_proof_text
from device_agent.wire.replies import Time
from tests.pki import Authority, pem_of, utc_now


@dataclass(frozen=True, kw_only=True)
class TimeKey:
    """A key that signs the time, its certificate, and the CAs above that."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]


def time_key(
    issuer: Authority,
    common_name: str,
    *,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING,
    not_after: datetime | None = None,
) -> TimeKey:
    """Make a time key as the product's profile has it: P-256, for a year."""
    key, begin = ec.generate_private_key(ec.SECP256R1()), utc_now() - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(not_after or begin + timedelta(days=365))
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .sign(issuer.key, hashes.SHA256())
    )
    return TimeKey(key=key, certificate=certificate, chain=(issuer.certificate,))


def signed_time(
    key: TimeKey, *, message_id: str, domain: str, nonce: bytes, now: datetime, fleet: str = "acme"
) -> Time:
    """Return a time as a server signs it."""
    text = time_proof_text(fleet=fleet, domain=domain, nonce=nonce, now=time_text(now))
    return Time(
        id=message_id,
        nonce=nonce,
        now=now,
        signature=key.key.sign(text, ec.ECDSA(hashes.SHA256())),
        certificate=b"".join(map(pem_of, (key.certificate, *key.chain))).decode(),
    )
