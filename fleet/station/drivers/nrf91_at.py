"""Cellular modems of Nordic's nRF91: the key is made in the modem, whose chip signs that it was.

The grammar is that of Nordic's AT command reference, on the modem's own port or behind the `at` command of
a shell. Nothing is written before the modem is off line, and no key of it is ever seen here.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.wire.problems import MalformedMessageError
from fleet.attest.nordic import Identity, KeyStatement, Token
from fleet.model import KeyOrigin
from fleet.station.drivers.console import Answer, Console, ConsoleError, End, ends
from fleet.station.drivers.course import DoubtfulUnitError, Greeting, Request, fingerprint_of_unknown
from fleet.station.drivers.credentials import Credentials, credentials_of
from fleet.station.drivers.plain_request import without_null_parameters
from fleet.station.keeping.package import Package
from fleet.station.keeping.units import Generation
from fleet.station.link.causes import Cause

DEFAULT_TAG = 16842753
"""The security tag that Nordic's own samples use."""

_CA, _CHAIN, _KEY = 0, 1, 2
_ALREADY_THERE = "+CME ERROR: 519"
_LOOK_SECONDS = 1.0
_SECONDS = 5.0
_KEY_SECONDS = 20.0
_JUDGE = ends(done="OK".__eq__, refused=lambda line: line == "ERROR" or line.startswith("+CME ERROR"))
_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "+CME ERROR: 513": "there is no such credential",
        "+CME ERROR: 514": "it is not allowed",
        "+CME ERROR: 515": "its memory is full",
        "+CME ERROR: 518": "the modem is on line",
        _ALREADY_THERE: "there is one already",
        "+CME ERROR: 523": "no key could be made",
    }
)


class Nrf91:
    """A `Device`. `identities` are identity keys of chips, by UUID; with any, no other chip is taken."""

    def __init__(
        self,
        console: Console,
        *,
        tag: int = DEFAULT_TAG,
        identities: Mapping[str, ec.EllipticCurvePublicKey] = MappingProxyType({}),
    ) -> None:
        self._console = console
        self._tag = tag
        self._identities = identities
        self._uuid = ""
        self._is_in_shell = False

    async def greet(self) -> Greeting | None:
        """Return which chip answers, on the port itself or behind a shell."""
        await self._console.settle()
        model = await self._model()
        if model is None:
            return None
        await self._done("AT+CMEE=1")
        serial = await self._done("AT+CGSN")
        self._uuid = self._identity(await self._done("AT%ATTESTTOKEN")).uuid
        imei = next((line for line in serial.lines if line.isdigit()), "")
        return Greeting(hardware_id=self._uuid, model=f"{model} imei {imei}".strip()[:64])

    async def holds(self, known: Sequence[Generation]) -> bytes | None:
        """Return which leaf the modem holds, by its digest of the chain."""
        held = await self._held()
        if _CHAIN not in held:
            return None
        for one in known:
            if one.package and held[_CHAIN] == _digest(credentials_of(one.package).chain) and _KEY in held:
                return one.package.fingerprint
        return fingerprint_of_unknown(held[_CHAIN].encode())

    async def request(self, device_id: str, known: Sequence[Generation]) -> Request:
        """Have a key made; one without a certificate is dropped, for its request cannot be had again."""
        await self._done("AT+CFUN=4")
        if _KEY in await self._held():
            await self._done(f"AT%CMNG=3,{self._tag},{_KEY}")
        answer = await self._done(f'AT%KEYGEN={self._tag},2,0,"CN={device_id}"', seconds=_KEY_SECONDS)
        token = Token.parse(_quoted(answer, "%KEYGEN:"))
        stated = KeyStatement.read(token)
        if (stated.uuid, stated.tag) != (self._uuid, self._tag):
            raise DoubtfulUnitError("its key was made by another chip, or for another security tag")
        origin = KeyOrigin.ATTESTED if self._is_vouched(token) else KeyOrigin.DEVICE
        return Request(csr=without_null_parameters(stated.csr), key=origin)

    async def install(self, package: Package, *, progress: Callable[[int, int], None]) -> None:
        """Write the anchors, then the chain."""
        await self._done("AT+CFUN=4")
        pems = self._pems(credentials_of(package))
        total = sum(map(len, pems.values()))
        written = 0
        for kind, pem in pems.items():
            await self._write(kind, pem)
            written += len(pem)
            progress(written, total)

    async def prove(self, package: Package, *, nonce: bytes) -> None:
        """Have the chip sign the nonce, and compare digests of all that it should hold."""
        answer = await self._done(f'AT%ATTESTTOKEN="{nonce.hex()}"')
        identity = self._identity(answer)
        if identity.uuid != self._uuid or identity.nonce != nonce:
            raise DoubtfulUnitError("another chip answers than before, or not to this challenge")
        held = await self._held()
        expected = {kind: _digest(pem) for kind, pem in self._pems(credentials_of(package)).items()}
        if _KEY not in held or any(held.get(kind) != digest for kind, digest in expected.items()):
            raise ConsoleError("the modem does not hold what was written", cause=Cause.BAD_CABLE)

    def _identity(self, answer: Answer) -> Identity:
        token = Token.parse(_quoted(answer, "%ATTESTTOKEN:"))
        identity = Identity.read(token)
        if self._identities and identity.uuid not in self._identities:
            raise ConsoleError(
                f"chip {identity.uuid} is not on the list of identities", cause=Cause.WRONG_DEVICE
            )
        if self._identities and not token.is_signed_by(self._identities[identity.uuid]):
            raise DoubtfulUnitError("its chip did not sign what it says")
        return identity

    def _is_vouched(self, token: Token) -> bool:
        if not self._identities:
            return False
        if not token.is_signed_by(self._identities[self._uuid]):
            raise DoubtfulUnitError("its chip did not sign which key it made")
        return True

    @staticmethod
    def _pems(credentials: Credentials) -> dict[int, str]:
        return {_CA: credentials.servers, _CHAIN: credentials.chain}

    async def _write(self, kind: int, pem: str) -> None:
        command = f'AT%CMNG=0,{self._tag},{kind},"{pem}"'
        answer = await self._ask(command)
        if answer.lines[-1] == _ALREADY_THERE:
            await self._done(f"AT%CMNG=3,{self._tag},{kind}")
            answer = await self._ask(command)
        _require(answer, command)

    async def _held(self) -> dict[int, str]:
        """Return the digests of what stands under the tag, by type."""
        answer = await self._done(f"AT%CMNG=1,{self._tag}")
        held: dict[int, str] = {}
        for line in answer.lines:
            tag, _, rest = line.removeprefix("%CMNG:").strip().partition(",")
            kind, _, digest = rest.partition(",")
            if line.startswith("%CMNG:") and tag == str(self._tag) and kind.isdigit():
                held[int(kind)] = digest.partition(",")[0].strip('" ').upper()
        return held

    async def _model(self) -> str | None:
        """Return the model, or None where nobody answers, neither the modem nor its shell."""
        for self._is_in_shell in (False, True):
            try:
                answer = await self._ask("AT+CGMM", seconds=_LOOK_SECONDS)
            except ConsoleError as error:
                if error.cause is not Cause.NOT_ANSWERING:
                    raise
                continue
            if answer.end is End.DONE:
                named = (line for line in answer.lines if line.startswith("nRF"))
                return next(named, "nRF91")
        return None

    async def _done(self, command: str, *, seconds: float = _SECONDS) -> Answer:
        answer = await self._ask(command, seconds=seconds)
        _require(answer, command)
        return answer

    async def _ask(self, command: str, *, seconds: float = _SECONDS) -> Answer:
        sent = "at '" + command.replace("\n", "\\n") + "'" if self._is_in_shell else command
        return await self._console.ask(_name(command), sent, judge=_JUDGE, seconds=seconds)


def _require(answer: Answer, command: str) -> None:
    if answer.end is not End.DONE:
        reason = _MEANINGS.get(answer.lines[-1], "it tells no reason")
        raise ConsoleError(f"the modem refuses {_name(command)}: {reason}", cause=Cause.NONE)


def _name(command: str) -> str:
    return command.partition("=")[0]


def _quoted(answer: Answer, prefix: str) -> str:
    """Return what stands in quotes behind a prefix; raises `MalformedMessageError`."""
    _, opened, rest = (answer.after(prefix) or "").partition('"')
    text, closed, _ = rest.partition('"')
    if not opened or not closed:
        raise MalformedMessageError(f"answer must hold {prefix} and a token")
    return text


def _digest(pem: str) -> str:
    return hashlib.sha256(pem.encode()).hexdigest().upper()
