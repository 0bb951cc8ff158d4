"""Zephyr's shell, with its prompt, echo and colours: `hwinfo`, `cred`, `nrf_cloud_cred` and `at`."""

import base64
import hashlib
import shlex
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.vendors.modem import Modem

_PROMPT = "\x1b[1;32muart:~$ \x1b[m"
_LOG = f"\x1b[8D\x1b[J[00:00:01.234,567] \x1b[0m<inf> main: alive\x1b[0m\r\n{_PROMPT}"
_NAMES = {"CA": "CA_CERT", "SERV": "SERVER_CERT", "PK": "PRIVATE_KEY"}


@dataclass
class Shell:
    """The shell; `logs` puts a line of the log before each answer, as a shell's log backend does."""

    chip: bytes = bytes.fromhex("a1b2c3d4e5f60718")
    logs: bool = False
    has_hwinfo: bool = True
    stored: dict[tuple[int, str], bytes] = field(default_factory=dict)
    capacity: int = 4096
    buffer: str = ""
    commands: list[str] = field(default_factory=list)
    _coming: str = ""

    def power_cycle(self) -> None:
        self.buffer = self._coming = ""

    def feed(self, octets: bytes) -> bytes:
        self._coming += octets.decode("ascii", "replace").replace("\0", "")
        said = ""
        while "\n" in self._coming:
            command, _, self._coming = self._coming.partition("\n")
            said += self._answer(command.strip())
        return said.encode()

    def _answer(self, command: str) -> str:
        self.commands.append(command)
        lines = self.perform(shlex.split(command)) if command else []
        log = (
            f"\x1b[8D\x1b[J[00:00:01.234,567] \x1b[0m<inf> main: alive\x1b[0m\r\n{_PROMPT}"
            if self.logs
            else ""
        )
        return command + "\r\n" + log + "".join(f"{line}\r\n" for line in lines) + _PROMPT

    def perform(self, words: list[str]) -> list[str]:
        match words:
            case ["hwinfo", "devid"] if self.has_hwinfo:
                return [f"Length: {len(self.chip)}", f"ID: 0x{self.chip.hex()}"]
            case ["cred", "buf", chunk]:
                return self._buffer(chunk)
            case ["cred", "add", tag, kind, "DEFAULT", "bint"]:
                return self._add(int(tag), kind)
            case ["cred", "del", tag, kind]:
                return self._delete(int(tag), kind)
            case ["cred", "list", *wanted]:
                return self._list(wanted)
            case _:
                return [f"{words[0]}: command not found"]

    def _buffer(self, chunk: str) -> list[str]:
        if chunk == "clear":
            said = ["Credential buffer cleared."] if self.buffer else []
            self.buffer = ""
            return said
        if len(self.buffer) + len(chunk) > self.capacity:
            self.buffer = ""
            return ["Not enough room in credential buffer for provided data. Increase the buffer."]
        self.buffer += chunk
        return [f"Stored {len(chunk)} bytes."]

    def _add(self, tag: int, kind: str) -> list[str]:
        taken, self.buffer = self.buffer, ""
        if not taken:
            return ["Please provide a credential to add."]
        if (tag, kind) in self.stored:
            return [f"TLS credential with sectag {tag} and type {_NAMES[kind]} already exists."]
        self.stored[tag, kind] = base64.b64decode(taken) + b"\0"
        length = len(self.stored[tag, kind])
        return [
            f"Added TLS credential of type {_NAMES[kind]}, sectag {tag}, and length {length} bytes.",
            "Credential buffer cleared.",
        ]

    def _delete(self, tag: int, kind: str) -> list[str]:
        if self.stored.pop((tag, kind), None) is None:
            return [f"There is no TLS credential with sectag {tag} and type {_NAMES[kind]}."]
        return [f"Deleted TLS credential with sectag {tag} and type {_NAMES[kind]}."]

    def _list(self, wanted: list[str]) -> list[str]:
        rows = [
            f"{tag},{kind},{base64.b64encode(hashlib.sha256(text).digest()).decode()},0"
            for (tag, kind), text in sorted(self.stored.items())
            if wanted[:1] in ([], [str(tag)]) and wanted[1:] in ([], [kind])
        ]
        return [*rows, f"{len(rows)} credentials found."]


@dataclass
class NcsShell(Shell):
    """A shell whose device makes its key, one for one tag."""

    keys: dict[int, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    signs: ec.EllipticCurvePrivateKey | None = None
    generated: int = 0

    def perform(self, words: list[str]) -> list[str]:
        match words:
            case ["nrf_cloud_cred", "keygen", tag]:
                return self._keygen(int(tag))
            case ["nrf_cloud_cred", "csr", tag, *subject]:
                return self._csr(int(tag), subject[0] if subject else "CN=nrf-device")
            case ["nrf_cloud_cred", "pubkey", tag]:
                return self._pubkey(int(tag))
            case ["nrf_cloud_cred", "delete", tag]:
                self.keys.pop(int(tag), None)
                return [f"Deleted device key in sec tag {tag}"]
            case _:
                return super().perform(words)

    def _keygen(self, tag: int) -> list[str]:
        if tag in self.keys:
            return [f"Key already exists in sec tag {tag}, use 'delete' first"]
        if self.keys:
            return ["Key generation failed: -134"]
        self.keys[tag] = ec.generate_private_key(ec.SECP256R1())
        self.generated += 1
        return [f"Generated device key in sec tag {tag}"]

    def _csr(self, tag: int, subject: str) -> list[str]:
        key = self.signs or self.keys.get(tag)
        if key is None:
            return ["CSR generation failed: -2"]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.removeprefix("CN="))])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return [
            f"CSR: {base64.b64encode(csr.public_bytes(Encoding.DER)).decode()}",
            "CSR generation complete",
        ]

    def _pubkey(self, tag: int) -> list[str]:
        if tag not in self.keys:
            return ["Public key export failed: -2"]
        point = self.keys[tag].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return [f"PUBKEY: {base64.b64encode(point).decode()}", "Public key export complete"]


@dataclass
class AtShell(Shell):
    """A shell with the `at` command in front of a modem."""

    modem: Modem = field(default_factory=Modem)

    def perform(self, words: list[str]) -> list[str]:
        if words[0] == "at":
            command = " ".join(words[1:]).replace("\\n", "\n")
            return self.modem.answer(command).splitlines()
        return super().perform(words)
