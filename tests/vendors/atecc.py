"""The manufacturing firmware of esp-cryptoauth-utility 1.2 with an ATECC608, by its sources.

It waits for `version` after it has booted, then takes commands that end with CR, and data that ends with NUL.
"""

import zlib
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

_BUFFER = 1200


@dataclass
class Atecc:
    """The chip keeps `key`, `written` and `serial`; all else is the firmware's, and gone at power-off."""

    kind: str = "TrustCustom"
    serial: bytes = bytes.fromhex("0123a1b2c3d4e5f6ee")
    key: ec.EllipticCurvePrivateKey | None = None
    signs: ec.EllipticCurvePrivateKey | None = None
    written: dict[str, bytes] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    generated: int = 0
    is_booted: bool = False
    _step: int = 0
    _coming: bytes = b""
    _wants_data: str = ""

    def power_cycle(self) -> None:
        self.is_booted, self._step, self._coming, self._wants_data = False, 0, b"", ""

    def boot(self) -> bytes:
        return b"I (231) main_task: App version: v1.0.1\r\nInitializing Command line: >>"

    def feed(self, octets: bytes) -> bytes:
        self._coming += octets
        said = b""
        while (answer := self._next()) is not None:
            said += answer
        return said

    def _next(self) -> bytes | None:
        if not self.is_booted:
            if len(self._coming) < len(b"version"):
                return None
            self.is_booted = self._coming[:7] == b"version"
            self._coming = self._coming[7:]
            return b"v1.0.1\r\nI (900) ECU: UART interface successfully initialized\r\n\r\n>> "
        end = b"\0" if self._wants_data else b"\r"
        if end not in self._coming:
            return None
        taken, _, self._coming = self._coming.partition(end)
        if self._wants_data:
            return self._take(taken.decode())
        return self._command(taken.strip(b"\0\n").decode())

    def _command(self, line: str) -> bytes:
        words = line.split()
        match words:
            case []:
                return b"\r\n>> "
            case ["version"]:
                return b"version\r\nv1.0.1\r\n>> "
            case ["provide-cert-def" | "program-dev-cert" | "program-signer-cert", *_]:
                self._wants_data = line
                return (line + "\r\n").encode()
            case _:
                return self._said(line, *self._perform(words))

    def _said(self, line: str, is_done: bool, shown: str = "") -> bytes:
        status = "Success" if is_done else "Failure"
        text = f"{line}\r\nI (1200) secure_element: Status: {status}\r\n\r\n{shown}\r\n>> "
        return text.encode()

    def _perform(self, words: list[str]) -> tuple[bool, str]:
        match words:
            case ["init", _, _]:
                self._step = 1
                return True, f"I (1210) secure_element: ATECC608 Device Type: {self.kind}\r\n"
            case _ if self._step < 1:
                return False, "E (1300) secure_element: Please Initialize device before calling this function"
            case ["print-chip-info"]:
                return True, "\r\n Serial Number:\r\n" + self.serial.hex(" ") + " "
            case ["generate-keys", "0"]:
                self.key = ec.generate_private_key(ec.SECP256R1())
                self.generated += 1
                return True, "\r\nPublic Key:\r\n" + self._point().hex()
            case ["generate-pubkey", "0"]:
                return (
                    (True, "\r\nPublic Key:\r\n" + self._point().hex(" ") + " ") if self.key else (False, "")
                )
            case ["generate-csr"] if self.key:
                self._step = 2
                return True, "\r\n" + self._csr().replace("\n", "\r\n")
            case _:
                return False, "E (1400) secure_element: Reason: Invalid Usage"

    def _point(self) -> bytes:
        assert self.key is not None
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def _csr(self) -> str:
        key = self.signs or self.key
        assert key is not None
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Inc")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return csr.public_bytes(Encoding.PEM).decode()

    def _take(self, data: str) -> bytes:
        line, self._wants_data = self._wants_data, ""
        words = line.split()
        if len(data) >= _BUFFER or self._step < 1:
            return self._said(line, False)
        if words[0] == "provide-cert-def":
            self.definitions[words[1]] = data
            return self._said("", self._is_definition(data))
        if self._step < 2 or zlib.crc32(data.encode()) != int(words[2]):
            return self._said("", False, "E (1500) secure_element: CRC32 mismatch")
        kind = "0" if words[0] == "program-dev-cert" else "1"
        der = x509.load_pem_x509_certificate(data.encode()).public_bytes(Encoding.DER)
        if kind not in self.definitions or bytes.fromhex(self.definitions[kind][72:]) != der:
            return self._said("", False, "E (1510) secure_element: writecert failed")
        self.written[kind] = der
        return self._said("", True)

    @staticmethod
    def _is_definition(data: str) -> bool:
        """The places must be those of the template: key, signature, date and the part that is signed."""
        numbers = [int(data[at : at + 4]) for at in range(0, 72, 4)]
        places = list(zip(numbers[::2], numbers[1::2], strict=True))
        der = bytes.fromhex(data[72:])
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        parts = [der[offset : offset + count] for offset, count in places]
        return (
            parts[0] == key[-64:]
            and parts[1].endswith(certificate.signature)
            and parts[2] == f"{certificate.not_valid_before_utc:%y%m%d%H%M%SZ}".encode()
            and parts[8] == certificate.tbs_certificate_bytes
        )
