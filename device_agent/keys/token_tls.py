"""Which way TLS takes to a token's keys: OpenSSL's provider where it is configured, else the agent's own.

A way that failed, though the token itself signs, is given up until the agent starts anew: it is said why, and
the next one is taken. No way leads to a file.
"""

import logging
import ssl
from collections.abc import Callable
from enum import StrEnum

from device_agent.errors import KeyStoreError
from device_agent.keys import openssl_provider, provider_key
from device_agent.keys.tls_key import TlsKey
from device_agent.wire.secret import Secret

_log = logging.getLogger(__name__)


class Way(StrEnum):
    """How TLS signs with a token's key, in words."""

    PROVIDER = "OpenSSL's pkcs11-provider"
    OWN = "the agent's own provider"


class TokenTls:
    """The ways to the keys of one token, in their order."""

    def __init__(self) -> None:
        self._failed: str | None = None

    @property
    def is_by_provider(self) -> bool:
        """Whether the first way is there and has not failed."""
        return self._failed is None and provider_key.is_configured()

    def arm(
        self,
        context: ssl.SSLContext,
        key: TlsKey,
        *,
        reference: str,
        pin: Callable[[], Secret],
        chain_pem: str,
    ) -> Way:
        """Make a TLS client context authenticate with a key that just signed; return by which way.

        `reference` is the key's URI; `pin` gives the PIN that the token took. Raises `KeyStoreError` where no
        way is left.
        """
        if self.is_by_provider:
            taken = pin()
            try:
                provider_key.arm(context, reference, pin=taken, chain_pem=chain_pem)
            except KeyStoreError as error:
                self._failed = str(error)
                _log.warning("%s; until the next start TLS signs by %s", error, Way.OWN)
            else:
                return Way.PROVIDER
        openssl_provider.arm(context, key, chain_pem=chain_pem)
        return Way.OWN
