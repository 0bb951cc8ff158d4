"""ESP32s without a secure element: an image of the partition `esp_secure_cert`, written by esptool.

Lower assurance, and off unless asked for: the station makes the key. It is in memory for one visit, then in
the chip's flash, in clear unless the chip encrypts its flash. No fuse is burnt here.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256

from device_agent.wire.objects import Configuration, parse_certificates
from device_agent.wire.problems import MalformedMessageError
from fleet.station.drivers.console import ConsoleError
from fleet.station.drivers.course import Greeting, Request, fingerprint_of_unknown
from fleet.station.drivers.esp_secure_cert import OFFSET, SIZE, SecureCert, is_erased, secure_cert_image
from fleet.station.drivers.esptool import Chip, Esptool
from fleet.station.drivers.host_key import HostKey
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Generation
from fleet.station.link.causes import Cause


class EspImage:
    """A `Device`; `offset` is where its partition begins."""

    def __init__(self, esptool: Esptool, *, offset: int = OFFSET) -> None:
        self._esptool = esptool
        self._offset = offset
        self._chip: Chip | None = None
        self._key: HostKey | None = None

    async def greet(self) -> Greeting | None:
        """Return which chip answers, and keep what stands in its partition."""
        self._chip = await self._esptool.read(offset=self._offset, length=SIZE)
        if self._chip is None:
            return None
        return Greeting(hardware_id=self._chip.mac, model=self._chip.kind)

    async def holds(self, known: Sequence[Generation]) -> bytes | None:
        """Return which leaf stands in the partition."""
        octets = self._chip.octets if self._chip else b""
        if is_erased(octets):
            return None
        with suppress(MalformedMessageError):
            found = SecureCert.read(octets)
            if found.chain:
                return _leaf_in_use(found, known)
        # Cut off while it was written, if anything was made for it; else somebody else's.
        return None if any(one.package for one in known) else fingerprint_of_unknown(octets)

    async def request(self, device_id: str, known: Sequence[Generation]) -> Request:
        """Make a key for the device."""
        self._key = HostKey()
        return self._key.request(device_id)

    async def install(self, package: Package, *, progress: Callable[[int, int], None]) -> None:
        """Write key, chain and anchors as one image, and forget the key."""
        if self._key is None:
            raise ConsoleError("the key of this certificate is gone", cause=Cause.NONE)
        chain, anchors = _certificates(package)
        image = secure_cert_image(key=self._key.der(), chain=chain, anchors=anchors)
        await self._esptool.write(image, offset=self._offset)
        self._key = None
        progress(len(image), len(image))

    async def prove(self, package: Package, *, nonce: bytes) -> None:
        """Read back what stands in the flash: it can prove no more."""
        await self.greet()
        found = SecureCert.read(self._chip.octets if self._chip else b"")
        if (found.chain, found.anchors) != _certificates(package) or not found.key_octets:
            raise ConsoleError("the flash does not hold what was written", cause=Cause.BAD_CABLE)


def _leaf_in_use(found: SecureCert, known: Sequence[Generation]) -> bytes | None:
    """Return the fingerprint of the leaf, unless it is ours and its key was not written any more."""
    leaf = sha256(found.chain[0]).digest()
    is_known = any(one.package and one.package.fingerprint == leaf for one in known)
    return None if is_known and not found.key_octets else leaf


def _certificates(package: Package) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the chain, and the anchors by which the device knows its servers."""
    trusted = Configuration.parse(package.configuration).servers
    anchors = parse_certificates(package.anchors)
    return (
        parse_certificates(package.chain),
        tuple(one for one in anchors if sha256(one).hexdigest() in trusted),
    )
