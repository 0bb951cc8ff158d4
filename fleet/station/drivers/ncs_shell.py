"""Devices of the nRF Connect SDK whose shell makes the key: `nrf_cloud_cred` beside Zephyr's `cred`.

The key is a persistent one of PSA that cannot be exported. It signs requests for any subject, so a fresh
nonce as common name is a challenge that its owner alone can answer.
"""

import base64
import binascii
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from device_agent.wire.problems import MalformedMessageError
from fleet.core.unreadable import UNREADABLE
from fleet.model import KeyOrigin
from fleet.station.drivers.console import Answer, ends
from fleet.station.drivers.course import DoubtfulUnitError, Greeting, Request
from fleet.station.drivers.credentials import credentials_of
from fleet.station.drivers.zephyr_shell import Kind, Shell, leaf_held
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Generation
from fleet.station.link.evidence import is_request_sound

_KEY_SECONDS = 20.0
_REFUSALS = (
    "command not found",
    "generation failed",
    "export failed",
    "Invalid sec tag",
    "Key generation not supported",
)


class NcsShell:
    """A `Device`."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def greet(self) -> Greeting | None:
        """Return which device answers."""
        return await self._shell.greet("nrf connect sdk")

    async def holds(self, known: Sequence[Generation]) -> bytes | None:
        """Return which leaf the device holds."""
        return leaf_held(await self._shell.held(), known)

    async def request(self, device_id: str, known: Sequence[Generation]) -> Request:
        """Have a key made, if there is none; return a known request of the same key."""
        await self._do("keygen", "", done=("Generated device key", "already exists"))
        point = await self._public_key()
        for one in known:
            if _point_of(one.csr) == point:
                return Request(csr=one.csr, key=KeyOrigin.DEVICE)
        csr = await self._csr(device_id)
        if _point_of(csr) != point:
            raise DoubtfulUnitError("its request is for another key than the one it shows")
        return Request(csr=csr, key=KeyOrigin.DEVICE)

    async def install(self, package: Package, *, progress: Callable[[int, int], None]) -> None:
        """Write the anchors, then the chain."""
        await self._shell.replace(_pems(package), progress=progress)

    async def prove(self, package: Package, *, nonce: bytes) -> None:
        """Have the key sign the nonce, and compare digests of what is installed."""
        await self._shell.require(_pems(package))
        csr = await self._csr(nonce.hex())
        leaf = x509.load_der_x509_certificate(package.leaf).public_key()
        if _point_of(csr) != _point(leaf) or _common_name(csr) != nonce.hex() or not is_request_sound(csr):
            raise DoubtfulUnitError("it does not hold the key of its certificate")

    async def _csr(self, common_name: str) -> bytes:
        answer = await self._do("csr", f' "CN={common_name}"', done=("CSR generation complete",))
        return _octets(answer.after("CSR:"))

    async def _public_key(self) -> bytes:
        """Return the point of the key, uncompressed (SEC 1 2.3.3)."""
        answer = await self._do("pubkey", "", done=("Public key export complete",))
        return _octets(answer.after("PUBKEY:"))

    async def _do(self, verb: str, rest: str, *, done: tuple[str, ...]) -> Answer:
        judge = ends(
            done=lambda line: any(word in line for word in done),
            refused=lambda line: any(word in line for word in _REFUSALS),
        )
        name = f"nrf_cloud_cred {verb}"
        return await self._shell.do(name, f"{name} {self._shell.tag}{rest}", judge, seconds=_KEY_SECONDS)


def _pems(package: Package) -> dict[Kind, str]:
    credentials = credentials_of(package)
    return {Kind.CA: credentials.servers, Kind.CHAIN: credentials.chain}


def _octets(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedMessageError("answer must be base64") from error


def _point_of(csr: bytes) -> bytes:
    try:
        return _point(x509.load_der_x509_csr(csr).public_key())
    except UNREADABLE as error:
        raise MalformedMessageError("request must be PKCS#10") from error


def _point(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MalformedMessageError("key must be on a curve")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _common_name(csr: bytes) -> str:
    names = x509.load_der_x509_csr(csr).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
