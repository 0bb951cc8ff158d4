"""A modem of the nRF91 by Nordic's AT command reference, with its echo and the lines that it says unasked."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from uuid import UUID

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleet.ca.der import BIT_STRING, NULL, SEQUENCE, object_identifier, sequence, tlv
from fleet.ca.der_reader import DerReader

DESCRIBED = b"\xd9\xd9\xf7"
_KEYGEN = re.compile(r'AT%KEYGEN=(\d+),2,0(?:,"CN=([^"]*)")?')
_WRITE = re.compile(r'AT%CMNG=0,(\d+),(\d+),"([^"]*)"', re.DOTALL)
_LIST = re.compile(r"AT%CMNG=1(?:,(\d+))?(?:,(\d+))?")
_DELETE = re.compile(r"AT%CMNG=3,(\d+),(\d+)")
_ATTEST = re.compile(r'AT%ATTESTTOKEN(?:="([0-9a-fA-F]{32})")?')


def base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def with_null_parameters(csr: bytes) -> bytes:
    """Write a request as modem firmware 1.3 does: NULL behind the algorithm of the signature."""
    parts = DerReader(csr).inside(SEQUENCE)
    info, _, signature = parts.whole(SEQUENCE), parts.content(SEQUENCE), parts.content(BIT_STRING)
    algorithm = sequence(object_identifier("1.2.840.10045.4.3.2"), NULL)
    return sequence(info, algorithm, tlv(BIT_STRING, signature))


@dataclass
class Modem:
    """What stands in its flash, and what it is at."""

    uuid: UUID = field(default_factory=lambda: UUID("50363154-3931-44f0-8022-121b6401627d"))
    imei: str = "352656100367872"
    identity: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    stored: dict[tuple[int, int], str] = field(default_factory=dict)
    keys: dict[int, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    writes_null: bool = False
    echoes: bool = False
    chatters: bool = False
    may_replace: bool = True
    capacity: int = 64
    signs: ec.EllipticCurvePrivateKey | None = None
    """Another key than the chip's, where it is a forgery."""
    generated: int = 0
    function: int = 1
    tells_codes: bool = False
    _coming: str = ""

    def power_cycle(self) -> None:
        self.function, self.tells_codes, self._coming = 1, False, ""

    def feed(self, octets: bytes) -> bytes:
        self._coming += octets.decode("ascii", "replace")
        said = ""
        while (taken := self._take()) is not None:
            if taken:
                said += (taken + "\r\n" if self.echoes else "") + self.answer(taken)
        return said.encode()

    def _take(self) -> str | None:
        """Return the next whole command; inside of quotes a line goes on."""
        is_quoted = False
        for at, letter in enumerate(self._coming):
            is_quoted ^= letter == '"'
            if letter == "\n" and not is_quoted:
                taken, self._coming = self._coming[:at].strip("\r\n\0 "), self._coming[at + 1 :]
                return taken
        return None

    def answer(self, command: str) -> str:
        unasked = '+CEREG: 2,"76C1"\r\n%XTIME: "08"\r\n' if self.chatters else ""
        lines = self._perform(command)
        return unasked + "".join(f"{line}\r\n" for line in lines)

    def _perform(self, command: str) -> list[str]:
        if command.startswith("AT+CFUN="):
            self.function = int(command.removeprefix("AT+CFUN="))
            return ["OK"]
        if command == "AT+CMEE=1":
            self.tells_codes = True
            return ["OK"]
        fixed = {
            "AT": [],
            "AT+CGSN": [self.imei],
            "AT+CGMM": ["nRF9160-SICA"],
            "AT+CGMR": ["mfw_nrf9160_1.3.6"],
        }
        if command in fixed:
            return [*fixed[command], "OK"]
        for pattern, act in (
            (_ATTEST, self._attest),
            (_KEYGEN, self._keygen),
            (_WRITE, self._write),
            (_LIST, self._list),
            (_DELETE, self._delete),
        ):
            if match := pattern.fullmatch(command):
                return act(match)
        return ["ERROR"]

    def _error(self, code: int) -> list[str]:
        return [f"+CME ERROR: {code}" if self.tells_codes else "ERROR"]

    def _attest(self, match: re.Match[str]) -> list[str]:
        nonce = bytes.fromhex(match[1]) if match[1] else hashlib.sha256(b"own").digest()[:16]
        body = DESCRIBED + cbor2.dumps([1, self.uuid.bytes, 3, bytes(16), nonce])
        return [f'%ATTESTTOKEN: "{self._signed(body, None)}"', "OK"]

    def _keygen(self, match: re.Match[str]) -> list[str]:
        tag = int(match[1])
        if self.function == 1:
            return self._error(518)
        if tag in self.keys:
            return self._error(519)
        self.generated += 1
        self.keys[tag] = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, match[2] or str(self.uuid))])
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.keys[tag], hashes.SHA256())
        )
        csr = request.public_bytes(Encoding.DER)
        csr = with_null_parameters(csr) if self.writes_null else csr
        stated = [9, self.uuid.bytes, cbor2.dumps(tag), hashlib.sha256(csr).digest(), bytes(16)]
        return [f'%KEYGEN: "{self._signed(csr, DESCRIBED + cbor2.dumps(stated))}"', "OK"]

    def _signed(self, body: bytes, payload: bytes | None) -> str:
        protected = cbor2.dumps({1: -7})
        text = cbor2.dumps(["Signature1", protected, body, payload])
        r, s = decode_dss_signature((self.signs or self.identity).sign(text, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32) + s.to_bytes(32)
        sign1 = cbor2.CBORTag(18, [protected, {4: cbor2.dumps(-2)}, payload, signature])
        return f"{base64url(body)}.{base64url(cbor2.dumps(sign1))}"

    def _write(self, match: re.Match[str]) -> list[str]:
        place = int(match[1]), int(match[2])
        if self.function == 1:
            return self._error(518)
        if place in self.stored and not self.may_replace:
            return self._error(519)
        if len(self.stored) >= self.capacity:
            return self._error(515)
        self.stored[place] = match[3]
        return ["OK"]

    def _list(self, match: re.Match[str]) -> list[str]:
        digests = {
            place: hashlib.sha256(text.encode()).hexdigest().upper() for place, text in self.stored.items()
        }
        digests |= {(tag, 2): hashlib.sha256(str(tag).encode()).hexdigest().upper() for tag in self.keys}
        return [
            *(
                f'%CMNG: {tag},{kind},"{digest}"'
                for (tag, kind), digest in sorted(digests.items())
                if match[1] in (None, str(tag)) and match[2] in (None, str(kind))
            ),
            "OK",
        ]

    def _delete(self, match: re.Match[str]) -> list[str]:
        place = int(match[1]), int(match[2])
        if self.function == 1:
            return self._error(518)
        if place[1] == 2 and place[0] in self.keys:
            del self.keys[place[0]]
            return ["OK"]
        return ["OK"] if self.stored.pop(place, None) else self._error(513)
