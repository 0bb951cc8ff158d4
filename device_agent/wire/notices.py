"""What is retained on a device's topics: the server's notice to it, and the state that it tells.

Both are hints: nobody is let in, and nothing is deleted, because of one.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from device_agent.wire.fields import parse_object, time_text
from device_agent.wire.problems import MalformedMessageError

VERSION = 1
_NOTICE = "notice"
_STATE = "state"
_LONGEST_WORD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """When the server wants the certificate of this serial renewed; in the past means now.

    It names the serial, so that a notice that stays retained does not speak of the next certificate.
    """

    serial: str
    renew_after: datetime

    def encode(self) -> bytes:
        """Return the JSON body."""
        renew_after = time_text(self.renew_after)
        return _encode({"type": _NOTICE, "serial": self.serial, "renew_after": renew_after})

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a body; raises `MalformedMessageError`."""
        fields = parse_object(body)
        _require(fields.integer("v", lowest=0, highest=255), fields.text("type", longest=32), _NOTICE)
        return cls(serial=fields.serial("serial"), renew_after=fields.time("renew_after"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """What a device tells of itself: agent version, serial in use, anchors held, and its last problem."""

    agent: str
    serial: str
    anchors: tuple[str, ...] = ()
    problem: str | None = None

    def encode(self) -> bytes:
        """Return the JSON body."""
        return _encode(
            {
                "type": _STATE,
                "agent": self.agent,
                "serial": self.serial,
                "anchors": list(self.anchors),
                "problem": self.problem,
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a body; raises `MalformedMessageError`."""
        fields = parse_object(body)
        _require(fields.integer("v", lowest=0, highest=255), fields.text("type", longest=32), _STATE)
        return cls(
            agent=fields.text("agent", longest=_LONGEST_WORD),
            serial=fields.serial("serial"),
            anchors=fields.sha256s("anchors"),
            problem=fields.text("problem", longest=_LONGEST_WORD) if "problem" in fields else None,
        )


def _encode(members: dict[str, object]) -> bytes:
    return json.dumps({"v": VERSION} | members, separators=(",", ":")).encode()


def _require(version: int, kind: str, wanted: str) -> None:
    if version != VERSION or kind != wanted:
        raise MalformedMessageError(f"body must be a {wanted} of version {VERSION}")
