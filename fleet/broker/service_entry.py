"""The allowlist entry of the fleet's own service, read from its certificate.

It lets the service in before there is a whole list; it can let nobody else in.
"""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from device_agent.wire.identity import serial_hex
from fleet.errors import FleetError
from fleet.model import AllowlistEntry, Purpose

SERVICE = "fleet-server"


def own_entry(certificate: Path) -> AllowlistEntry:
    """Return the entry of the leaf that a PEM file begins with.

    Raises:
        FleetError: it cannot be read.
    """
    try:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (OSError, ValueError, IndexError, x509.ExtensionNotFound) as error:
        raise FleetError(
            f"the service's own certificate cannot be used: {certificate}",
            hint="restore it from a backup of the fleet home",
        ) from error
    return AllowlistEntry(
        issuer=(issuer or b"").hex(),
        serial=serial_hex(leaf.serial_number),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        name=SERVICE,
        purpose=Purpose.SERVICE,
        not_after=leaf.not_valid_after_utc,
    )
