"""The authority and the configuration that count now, replaced together in one step while the server runs.

Whoever works on a request reads them once: both are values, and what was read stays whole.
"""

import asyncio

from fleet.ca.hierarchy import Authority
from fleet.ca.keyring import KeyRing
from fleet.config import Config


class InForce:
    """What is in force."""

    __slots__ = ("_authority", "_config", "changing", "keys")

    def __init__(self, authority: Authority, config: Config, *, keys: KeyRing) -> None:
        self._authority = authority
        self._config = config
        self.keys = keys
        """What opens the issuing keys, those of authorities to come too."""
        self.changing = asyncio.Lock()
        """Held by whoever changes what is in force, from what he read of it to what he puts there."""

    @property
    def authority(self) -> Authority:
        return self._authority

    @property
    def config(self) -> Config:
        return self._config

    def replace(self, *, authority: Authority | None = None, config: Config | None = None) -> None:
        """Put others in their place; from the next read on they count."""
        self._authority, self._config = authority or self._authority, config or self._config
