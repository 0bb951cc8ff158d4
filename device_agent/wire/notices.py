"""What is retained on a device's topics: the server's notice to it, and the state that it tells.

Both are hints: nobody is let in, and nothing is deleted, because of one. The trust bundles in a notice are
believed for their signatures, never for who published them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Self

from device_agent.wire.configuration import MAX_NUMBER, NumberedConfiguration
from device_agent.wire.fields import Fields, parse_object, time_text
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.trust import TrustBundle, TrustVersions, bundle_members, read_bundles, read_versions

VERSION = 1
_NOTICE = "notice"
_STATE = "state"
_LONGEST_WORD = 64
_MOST_COUNTERS = 32
_MOST_COUNTED = 1 << 53


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """When the server wants the certificate of this serial renewed, in the past means now; and whom to trust.

    It names the serial, so that a notice that stays retained does not speak of the next certificate.
    """

    serial: str
    renew_after: datetime
    bundles: tuple[TrustBundle, ...] = ()
    """The newest of each realm that was ever rolled."""
    configuration: NumberedConfiguration | None = None
    """Settings of the agent; None leaves those that it has."""

    def encode(self) -> bytes:
        """Return the JSON body."""
        members: dict[str, object] = {
            "type": _NOTICE,
            "serial": self.serial,
            "renew_after": time_text(self.renew_after),
        }
        if self.bundles:
            members["bundles"] = bundle_members(self.bundles)
        if self.configuration is not None:
            members["configuration"] = self.configuration.members()
        return _encode(members)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a body; raises `MalformedMessageError`."""
        fields = parse_object(body)
        _require(fields.integer("v", lowest=0, highest=255), fields.text("type", longest=32), _NOTICE)
        return cls(
            serial=fields.serial("serial"),
            renew_after=fields.time("renew_after"),
            bundles=read_bundles(fields, "bundles"),
            configuration=NumberedConfiguration.read(fields.object("configuration"))
            if "configuration" in fields
            else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """What a device tells of itself: agent version, serial in use, trust held, and its last problem."""

    agent: str
    serial: str
    anchors: tuple[str, ...] = ()
    """Of its domain, SHA-256 of their DER."""
    trust: TrustVersions = ()
    problem: str | None = None
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """What it has counted: renewals, failures, signatures, connections, writes, and what may come."""
    time_source: str | None = None
    """By what it knows the time: `system`, `signed`, `elapsed` or `floor`."""
    configuration: int = 0
    """The number of the settings that it goes by; 0: those that it was started with."""

    def encode(self) -> bytes:
        """Return the JSON body."""
        members: dict[str, object] = {
            "type": _STATE,
            "agent": self.agent,
            "serial": self.serial,
            "anchors": list(self.anchors),
            "problem": self.problem,
        }
        if self.trust:
            members["trust"] = dict(self.trust)
        if self.counters:
            members["counters"] = dict(self.counters)
        if self.time_source is not None:
            members["time_source"] = self.time_source
        if self.configuration:
            members["configuration"] = self.configuration
        return _encode(members)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a body; raises `MalformedMessageError`."""
        fields = parse_object(body)
        _require(fields.integer("v", lowest=0, highest=255), fields.text("type", longest=32), _STATE)
        return cls(
            agent=fields.text("agent", longest=_LONGEST_WORD),
            serial=fields.serial("serial"),
            anchors=fields.sha256s("anchors"),
            trust=read_versions(fields, "trust"),
            problem=fields.text("problem", longest=_LONGEST_WORD) if "problem" in fields else None,
            counters=_counters(fields.object("counters")) if "counters" in fields else MappingProxyType({}),
            time_source=fields.text("time_source", longest=_LONGEST_WORD)
            if "time_source" in fields
            else None,
            configuration=fields.integer("configuration", lowest=0, highest=MAX_NUMBER)
            if "configuration" in fields
            else 0,
        )


def _counters(fields: Fields) -> Mapping[str, int]:
    names = sorted(fields.names())
    if len(names) > _MOST_COUNTERS or any(len(name) > _LONGEST_WORD for name in names):
        raise MalformedMessageError(f"counters must have at most {_MOST_COUNTERS} members")
    return MappingProxyType({name: fields.integer(name, lowest=0, highest=_MOST_COUNTED) for name in names})


def _encode(members: dict[str, object]) -> bytes:
    return json.dumps({"v": VERSION} | members, separators=(",", ":")).encode()


def _require(version: int, kind: str, wanted: str) -> None:
    if version != VERSION or kind != wanted:
        raise MalformedMessageError(f"body must be a {wanted} of version {VERSION}")
