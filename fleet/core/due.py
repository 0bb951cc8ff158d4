"""When a certificate of our own is due: long before its end, and not all of them on one day."""

from datetime import datetime

from cryptography import x509

from device_agent.wire.identity import serial_hex
from fleet.core.profile import Profile
from fleet.core.serial import jitter_of


def is_due(certificate: x509.Certificate, profile: Profile, *, now: datetime) -> bool:
    """Tell whether two thirds of a certificate's life are over, and its part of the next twelfth."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    jitter = jitter_of(serial_hex(certificate.serial_number))
    return now >= profile.renew_after(begins, ends, jitter)
