"""A token's key for TLS by OpenSSL's own pkcs11-provider, where the machine's OpenSSL is configured with it.

The key goes into a context as any other: by a PEM text that holds its URI (provider-pkcs11(7)). That text has
the PIN, so it is in this process's memory alone, never in a file. Without a PIN the provider would ask at the
terminal, and a wrong one it would try: it is given the very PIN that the token took.
"""

import base64
import os
import ssl
from urllib.parse import quote

from device_agent.errors import KeyStoreError
from device_agent.keys.chains import readable
from device_agent.keys.openssl_library import has_provider
from device_agent.keys.tls_trial import require_handshake
from device_agent.wire.secret import Secret

_NAME = "pkcs11"
_DESCRIPTION = b"PKCS#11 Provider URI v1.0"
_LABEL = "PKCS#11 PROVIDER URI"
_SEQUENCE, _VISIBLE_STRING, _UTF8_STRING = 0x30, 0x1A, 0x0C


def is_configured() -> bool:
    """Tell whether OpenSSL's configuration (config(5)) brings the provider into this process."""
    return hasattr(os, "memfd_create") and has_provider(_NAME)


def arm(context: ssl.SSLContext, reference: str, *, pin: Secret, chain_pem: str) -> None:
    """Make a TLS client context authenticate with a key, after a trial has shown that it can.

    `reference` is the key's URI (RFC 7512).

    Raises:
        KeyStoreError: the provider does not find the key, or what it signs is no signature of it.
    """
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trial.check_hostname, trial.verify_mode = False, ssl.CERT_NONE
    trial.minimum_version, trial.maximum_version = context.minimum_version, context.maximum_version
    _load(trial, reference, pin=pin, chain_pem=chain_pem)
    require_handshake(trial, chain_pem=chain_pem)
    _load(context, reference, pin=pin, chain_pem=chain_pem)


def key_pem(reference: str, pin: Secret) -> str:
    """Return the text by which OpenSSL's readers of PEM find a key in a token."""
    uri = f"{reference.partition('?')[0]}?pin-value={quote(pin.reveal(), safe='')}"
    described = _tlv(_VISIBLE_STRING, _DESCRIPTION) + _tlv(_UTF8_STRING, uri.encode())
    body = base64.encodebytes(_tlv(_SEQUENCE, described)).decode()
    return f"-----BEGIN {_LABEL}-----\n{body}-----END {_LABEL}-----\n"


def _load(context: ssl.SSLContext, reference: str, *, pin: Secret, chain_pem: str) -> None:
    with readable(chain_pem) as chain, readable(key_pem(reference, pin)) as wrapped:
        try:
            # Without a password, OpenSSL would ask at the terminal.
            context.load_cert_chain(chain, wrapped, "")
        except OSError as error:  # an SSLError, or what the loader of the provider's library left
            raise KeyStoreError(
                f"OpenSSL's {_NAME} provider does not find the key", hint="is its pkcs11-module-path right"
            ) from error


def _tlv(tag: int, content: bytes) -> bytes:
    """Return a DER value of less than 64 KiB (X.690 8.1)."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes(1 + (length > 0xFF))
    return bytes((tag, 0x80 | len(octets))) + octets + content
