"""A witness of logs (C2SP tlog-witness) in memory, by the specification alone: it shares no code with us."""

import base64
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def grows(old: tuple[int, bytes], new: tuple[int, bytes], proof: list[bytes]) -> bool:
    """Check a consistency proof by the iterative way of RFC 9162 2.1.4.2."""
    (first, first_root), (second, second_root) = old, new
    if first == second:
        return not proof and first_root == second_root
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    left, right = first - 1, second - 1
    while left & 1:
        left, right = left >> 1, right >> 1
    one = two = path[0]
    for step in path[1:]:
        if right == 0:
            return False
        if left & 1 or left == right:
            one, two = _node(step, one), _node(step, two)
            while left and not left & 1:
                left, right = left >> 1, right >> 1
        else:
            two = _node(two, step)
        left, right = left >> 1, right >> 1
    return right == 0 and (one, two) == (first_root, second_root)


@dataclass
class MemoryWitness:
    """Knows one log by its key, and cosigns what carries on from what it cosigned last."""

    log_key: str = ""
    name: str = "witness.example.org/w1"
    at: int = 1_800_000_000
    size: int = 0
    root: bytes = b""
    asked: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def _key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n\x04" + self.public).digest()[:4]

    @property
    def key(self) -> str:
        """Its key as one word."""
        return f"{self.name}+{self._key_id.hex()}+{base64.b64encode(bytes([4]) + self.public).decode()}"

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Return status and body for a POST to add-checkpoint."""
        self.asked.append(body)
        head, note = body.decode().split("\n\n", 1)
        first, *steps = head.split("\n")
        text, signatures = note.split("\n\n")
        text += "\n"
        origin, size, root = text.splitlines()
        if not self.log_key.startswith(f"{origin}+"):
            return 404, b"unknown log"
        if not self._is_signed(origin, text, signatures):
            return 403, b"no signature of it"
        if int(first.removeprefix("old ")) != self.size:
            return 409, f"{self.size}\n".encode()
        new = (int(size), base64.b64decode(root))
        if self.size and not grows((self.size, self.root), new, [base64.b64decode(step) for step in steps]):
            return 422, b"that is another trail"
        self.size, self.root = new
        return 200, self._cosigned(text)

    def _is_signed(self, origin: str, text: str, signatures: str) -> bool:
        public = base64.b64decode(self.log_key.split("+", 2)[2])
        for line in signatures.splitlines():
            _, name, encoded = line.split(" ")
            if name == origin:
                try:
                    key = Ed25519PublicKey.from_public_bytes(public[1:])
                    key.verify(base64.b64decode(encoded)[4:], text.encode())
                except InvalidSignature:
                    return False
                return True
        return False

    def _cosigned(self, text: str) -> bytes:
        signature = self._key.sign(f"cosignature/v1\ntime {self.at}\n{text}".encode())
        content = self._key_id + self.at.to_bytes(8, "big") + signature
        return f"\u2014 {self.name} {base64.b64encode(content).decode()}\n".encode()
