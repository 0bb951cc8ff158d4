"""ESP32s with an ATECC608 (TrustCustom or TrustManager), run by the firmware of esp-cryptoauth-utility 1.2.

The key is made in the secure element and never leaves it. `generate-keys` would replace it, so it is asked
for once, where there is no key yet. Slots are never locked here: a certificate must be renewable.
"""

import asyncio
import re
import zlib
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_agent.wire.objects import parse_certificates
from device_agent.wire.problems import MalformedMessageError
from fleet.core.unreadable import UNREADABLE
from fleet.model import KeyOrigin
from fleet.station.drivers.atecc_definition import definition_of
from fleet.station.drivers.console import Answer, Console, ConsoleError, End, ends
from fleet.station.drivers.course import DoubtfulUnitError, Greeting, Request
from fleet.station.drivers.credentials import credentials_of
from fleet.station.keeping.life import UnitState
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Generation
from fleet.station.link.causes import Cause
from fleet.station.link.evidence import is_request_sound

PROMPT = ">>"
ENDING = "\r"
DEFAULT_PINS = (21, 22)
"""SDA and SCL of a WROOM-32SE."""

_LOOK_SECONDS = 0.7
_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
"""The firmware takes data only after it has begun with the command."""
_VERSION = re.compile(r"v\d+\.\d+\.\d+")
_JUDGE = ends(done=lambda line: "Status: Success" in line, refused=lambda line: "Status: Failure" in line)
_SHOWS_VERSION = ends(done=lambda line: bool(_VERSION.search(line)), refused=lambda _: False)
_OURS = ("TrustCustom", "TrustManager")
_INSTALLED = frozenset({UnitState.PROVEN, UnitState.COMMITTED, UnitState.LABELLED, UnitState.SYNCED})
_NEVER_SIGNER = "TrustManager"


class EspAtecc:
    """A `Device`, over a console that ends commands with CR and prompts with `>>`."""

    def __init__(
        self,
        console: Console,
        *,
        pins: tuple[int, int] = DEFAULT_PINS,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self._console = console
        self._pins = pins
        self._pause_seconds = pause_seconds
        self._has_signer_slot = True

    async def greet(self) -> Greeting | None:
        """Return which chip answers, once it is one that may be given a key and a certificate."""
        await self._console.settle()
        if not await self._is_there():
            return None
        shown = await self._do(f"init {self._pins[0]} {self._pins[1]}")
        kinds = [kind for kind in _OURS if any(kind in line for line in shown.lines)]
        if not kinds:
            raise ConsoleError(
                "its chip has a key and a certificate of Microchip's: fleet device import takes its manifest",
                cause=Cause.WRONG_DEVICE,
            )
        self._has_signer_slot = kinds[0] != _NEVER_SIGNER
        return Greeting(hardware_id=await self._serial_number(), model=f"esp32 atecc608 {kinds[0]}")

    async def holds(self, known: Sequence[Generation]) -> bytes | None:
        """Return the leaf that was proven with the key in the chip: a chip shows no certificate."""
        point = await self._public_key()
        for one in known:
            if one.package and one.state in _INSTALLED and _point_of_leaf(one.package.leaf) == point:
                return one.package.fingerprint
        return None

    async def request(self, device_id: str, known: Sequence[Generation]) -> Request:
        """Have a key made, if there is none; return a known request of the same key."""
        if await self._public_key() is None:
            await self._do("generate-keys 0")
        csr = await self._csr()
        same = (one.csr for one in known if _point_of(one.csr) == _point_of(csr))
        return Request(csr=next(same, csr), key=KeyOrigin.DEVICE)

    async def install(self, package: Package, *, progress: Callable[[int, int], None]) -> None:
        """Write the leaf and its signer, each behind its definition."""
        leaf, *signers = parse_certificates(package.chain)
        credentials = credentials_of(package)
        parts = [("0", "program-dev-cert", leaf, credentials.leaf)]
        if signers and self._has_signer_slot:
            parts.append(("1", "program-signer-cert", signers[0], credentials.signer))
        for number, (kind, command, der, pem) in enumerate(parts, start=1):
            await self._do(f"provide-cert-def {kind}", data=definition_of(der))
            text = pem + "\n"
            await self._do(f"{command} 0 {zlib.crc32(text.encode())}", data=text)
            progress(number, len(parts))

    async def prove(self, package: Package, *, nonce: bytes) -> None:
        """Have the key sign a request anew, and compare the key with the leaf's."""
        csr = await self._csr()
        if _point_of(csr) != _point_of_leaf(package.leaf) or not is_request_sound(csr):
            raise DoubtfulUnitError("it does not hold the key of its certificate")

    async def _is_there(self) -> bool:
        """The firmware waits for `version` without an end; a console that runs already wants one."""
        for text in ("version", ENDING):
            await self._console.send(text)
            try:
                await self._console.hear("version", judge=_SHOWS_VERSION, seconds=_LOOK_SECONDS)
            except ConsoleError as error:
                if error.cause is not Cause.NOT_ANSWERING:
                    raise
                continue
            return True
        return False

    async def _serial_number(self) -> str:
        shown = await self._do("print-chip-info")
        return _hex_after(shown, "Serial Number:", octets=9).hex()

    async def _public_key(self) -> bytes | None:
        """Return the point of the key, without its first octet; None where there is no key."""
        shown = await self._ask("generate-pubkey 0")
        return None if shown.end is End.REFUSED else _hex_after(shown, "Public Key:", octets=64)

    async def _csr(self) -> bytes:
        shown = await self._do("generate-csr")
        pem = "\n".join(line for line in shown.lines if ": " not in line and PROMPT not in line)
        try:
            return x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER)
        except UNREADABLE as error:
            raise MalformedMessageError("answer must hold a request") from error

    async def _do(self, command: str, *, data: str | None = None) -> Answer:
        answer = await self._ask(command, data=data)
        if answer.end is not End.DONE:
            raise ConsoleError(f"the firmware refuses {command.partition(' ')[0]}", cause=Cause.NONE)
        return answer

    async def _ask(self, command: str, *, data: str | None = None) -> Answer:
        name = command.partition(" ")[0]
        if data is None:
            return await self._console.ask(name, command, judge=_JUDGE, seconds=_SECONDS)
        await self._console.send(command + ENDING)
        await asyncio.sleep(self._pause_seconds)
        await self._console.send(data + "\0")
        return await self._console.hear(name, judge=_JUDGE, seconds=_SECONDS)


def _hex_after(answer: Answer, title: str, *, octets: int) -> bytes:
    """Return the hex on the line behind a title; raises `MalformedMessageError`."""
    following = iter(answer.lines)
    if not any(line == title for line in following):
        raise MalformedMessageError(f"answer must hold {title}")
    try:
        found = bytes.fromhex(next(following, ""))
    except ValueError as error:
        raise MalformedMessageError(f"{title} must be hex") from error
    if len(found) != octets:
        raise MalformedMessageError(f"{title} must be {octets} octets")
    return found


def _point_of(csr: bytes) -> bytes:
    return _point(x509.load_der_x509_csr(csr).public_key())


def _point_of_leaf(leaf: bytes) -> bytes:
    return _point(x509.load_der_x509_certificate(leaf).public_key())


def _point(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MalformedMessageError("key must be on a curve")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
