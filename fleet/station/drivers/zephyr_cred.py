"""Zephyr's `cred` shell, where the device can make no key itself: the station makes it and forgets it.

Lower assurance, and off unless asked for: the key crosses the line. It is in memory for one visit, never on
a disk and never in a log; a visit that is cut off ends with a new key, and the certificate before is revoked.
"""

from collections.abc import Callable, Sequence

from fleet.station.drivers.console import ConsoleError
from fleet.station.drivers.course import Greeting, Request
from fleet.station.drivers.credentials import credentials_of
from fleet.station.drivers.host_key import HostKey
from fleet.station.drivers.zephyr_shell import Kind, Shell, leaf_held
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Generation
from fleet.station.link.causes import Cause


class ZephyrCred:
    """A `Device`."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._key: HostKey | None = None

    async def greet(self) -> Greeting | None:
        """Return which device answers."""
        return await self._shell.greet("zephyr cred")

    async def holds(self, known: Sequence[Generation]) -> bytes | None:
        """Return which leaf the device holds."""
        return leaf_held(await self._shell.held(), known)

    async def request(self, device_id: str, known: Sequence[Generation]) -> Request:
        """Make a key for the device."""
        self._key = HostKey()
        return self._key.request(device_id)

    async def install(self, package: Package, *, progress: Callable[[int, int], None]) -> None:
        """Write the key, the anchors and the chain, and forget the key."""
        if self._key is None:
            raise ConsoleError("the key of this certificate is gone", cause=Cause.NONE)
        credentials = credentials_of(package)
        pems = {Kind.KEY: self._key.pem(), Kind.CA: credentials.servers, Kind.CHAIN: credentials.chain}
        await self._shell.replace(pems, progress=progress)
        await self._shell.require(pems)
        self._key = None

    async def prove(self, package: Package, *, nonce: bytes) -> None:
        """Compare the digests of what the device holds: it can prove no more."""
        credentials = credentials_of(package)
        await self._shell.require({Kind.CA: credentials.servers, Kind.CHAIN: credentials.chain})
