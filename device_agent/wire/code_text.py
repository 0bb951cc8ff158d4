"""A one-time code as it stands on paper or in a QR code, and as people type it.

    fleet-code:K7QD-22XC-9F3M-ZP4A:prod:d1      whose it is stands in it: code, domain, device id
    K7QD-22XC-9F3M-ZP4A                         the code alone

Whoever holds the text holds the code: it is a secret as a whole.
"""

from dataclasses import dataclass, field

from device_agent.wire.identity import Identity, parse_device_id, parse_domain
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.secret import Secret

LONGEST_TEXT = 256

_SCHEME = "fleet-code"
_LONGEST_CODE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCode:
    """A code, and whose it is where the text says so."""

    code: Secret = field(repr=False)
    identity: Identity | None = None

    @classmethod
    def parse(cls, text: str) -> "WrittenCode":
        """Read what was typed or scanned; raises `MalformedMessageError`, which never repeats it."""
        line = text.strip()
        if not line or len(line) > LONGEST_TEXT or not line.isascii() or not line.isprintable():
            raise MalformedMessageError("a code is one line of text")
        head, *rest = line.split(":", 3)
        if head.lower() != _SCHEME:
            return cls(code=_code(line))
        if len(rest) != 3:
            raise MalformedMessageError(f"{_SCHEME}: wants a code, a domain and a device id")
        identity = Identity(domain=parse_domain(rest[1]), device_id=parse_device_id(rest[2]))
        return cls(code=_code(rest[0]), identity=identity)

    def text(self) -> str:
        """Return the text that a scanner reads; of a code that stands alone, the code."""
        if self.identity is None:
            return self.code.reveal()
        return f"{_SCHEME}:{self.code.reveal()}:{self.identity.domain}:{self.identity.device_id}"


def _code(text: str) -> Secret:
    if not text or len(text) > _LONGEST_CODE:
        raise MalformedMessageError(f"a code has 1 to {_LONGEST_CODE} characters")
    return Secret(text)
