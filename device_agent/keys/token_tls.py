"""Which way TLS takes to a token's keys: OpenSSL's provider if configured, the agent's own, or stunnel.

A way that failed, though the token itself signs, is given up until the agent starts anew: it is said why, and
the next one is taken. No way leads to a file.
"""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from device_agent.errors import KeyStoreError
from device_agent.keys import openssl_provider, provider_key
from device_agent.keys.openssl_library import library
from device_agent.keys.sidecar import Sidecar, sidecar_for
from device_agent.keys.tls_key import TlsKey
from device_agent.wire.secret import Secret

_log = logging.getLogger(__name__)


class Way(StrEnum):
    """How TLS signs with a token's key, in words."""

    PROVIDER = "OpenSSL's pkcs11-provider"
    OWN = "the agent's own provider"
    SIDECAR = "stunnel beside the agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed:
    """The way that was found; `sidecar` stands in the place of the context, where there is one."""

    way: Way
    sidecar: Sidecar | None = None


class TokenTls:
    """The ways to the keys of one token, in their order."""

    def __init__(self, module_path: str) -> None:
        self._module_path = module_path
        self._failed: str | None = None

    @property
    def is_by_provider(self) -> bool:
        """Whether the first way is there and has not failed."""
        return self._failed is None and provider_key.is_configured()

    @property
    def wants_pin(self) -> bool:
        """Whether something else than this process logs in."""
        return self.is_by_provider or _refusal() is not None

    def arm(
        self,
        context: ssl.SSLContext,
        key: TlsKey,
        *,
        reference: str,
        pin: Callable[[], Secret],
        chain_pem: str,
    ) -> Armed:
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
                return Armed(way=Way.PROVIDER)
        if (refused := _refusal()) is not None:
            return self._beside(context, refused, reference=reference, pin=pin(), chain_pem=chain_pem)
        openssl_provider.arm(context, key, chain_pem=chain_pem)
        return Armed(way=Way.OWN)

    def _beside(
        self, context: ssl.SSLContext, refused: KeyStoreError, *, reference: str, pin: Secret, chain_pem: str
    ) -> Armed:
        try:
            sidecar = sidecar_for(
                context, module_path=self._module_path, reference=reference, pin=pin, chain_pem=chain_pem
            )
        except KeyStoreError as error:
            raise KeyStoreError(f"{refused}; and {error}", hint=error.hint) from error
        return Armed(way=Way.SIDECAR, sidecar=sidecar)


def _refusal() -> KeyStoreError | None:
    """Return why this process cannot use a token's key for TLS by itself, None where it can."""
    try:
        library()
    except KeyStoreError as error:
        return error
    return None
