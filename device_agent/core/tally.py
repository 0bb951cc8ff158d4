"""What was counted of one identity since counting began, and that as text.

Counters help somebody who looks; nothing is decided by one. A file that cannot be read begins anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Self

from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.problems import MalformedMessageError

MAX_TALLY_BYTES = 8 * 1024

_MOST = 1 << 53
_MOST_WORDS = 48
_LONGEST_WORD = 64
_OTHER = "other"
_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counters; they never go back while the state folder lives."""

    since: datetime
    """When counting began."""
    renewals: int = 0
    failures: Mapping[str, int] = field(default_factory=lambda: _NONE)
    """Attempts that failed, by the word of their problem."""
    signatures: int = 0
    """Made with this identity's keys outside of TLS: requests, proofs, what was lent."""
    connections: int = 0
    """To the broker, each with one more signature, in TLS."""
    writes: int = 0
    """Files written; flash wears."""
    written_bytes: int = 0

    def failed(self, word: str) -> Mapping[str, int]:
        """Return the failures with one more; words that nobody foresaw are counted together."""
        name = word if word in self.failures or len(self.failures) < _MOST_WORDS else _OTHER
        return MappingProxyType({**self.failures, name: self.failures.get(name, 0) + 1})

    def totals(self) -> dict[str, int]:
        """Return the counters as the state topic tells them, each one number."""
        return {
            "renewals": self.renewals,
            "failures": sum(self.failures.values()),
            "signatures": self.signatures,
            "connections": self.connections,
            "writes": self.writes,
        }

    def members(self) -> dict[str, object]:
        """Return what `status --json` tells."""
        return {
            "since": time_text(self.since),
            "renewals": self.renewals,
            "failures": dict(sorted(self.failures.items())),
            "signatures": self.signatures,
            "connections": self.connections,
            "writes": self.writes,
            "written_bytes": self.written_bytes,
        }

    def encode(self) -> bytes:
        """Return it as text."""
        return json.dumps(self.members(), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read the text; raises `MalformedMessageError`."""
        fields = parse_object(content)

        def count(name: str) -> int:
            return fields.integer(name, lowest=0, highest=_MOST)

        return cls(
            since=fields.time("since"),
            renewals=count("renewals"),
            failures=_failures(fields.object("failures")),
            signatures=count("signatures"),
            connections=count("connections"),
            writes=count("writes"),
            written_bytes=count("written_bytes"),
        )


def _failures(fields: Fields) -> Mapping[str, int]:
    names = fields.names()
    if len(names) > _MOST_WORDS + 1 or any(len(name) > _LONGEST_WORD for name in names):
        raise MalformedMessageError("failures name more problems than there are")
    return MappingProxyType({name: fields.integer(name, lowest=0, highest=_MOST) for name in names})
