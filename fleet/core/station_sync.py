"""What a station and its server tell each other at a sync: journal entries go up, rules come down.

The server answers with how far its copy of the journal has come: nothing is sent twice for long, and a
journal that was cut or written anew shows at once.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from device_agent.wire.fields import MAX_BODY_BYTES, Fields, parse_object, time_text
from device_agent.wire.problems import MalformedMessageError
from fleet.core.journal import GENESIS, MAX_ENTRY_BYTES, MAX_NUMBER, Head, SignedEntry
from fleet.core.station_rules import RuleTexts, StationRules, texts_of
from fleet.errors import BadInputError

MOST_ENTRIES = 200
"""In one message; fewer where they are long."""
MOST_OPERATORS = 500
_ROOM = MAX_BODY_BYTES - 4096
_SIGNATURE_BYTES = 160
_LONGEST_RULE = 160
_VERSION = 1

_Json: TypeAlias = "str | int | list[_Json] | dict[str, _Json] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalUpload:
    """Entries in their order, perhaps none, and the station's clock."""

    now: datetime
    entries: tuple[SignedEntry, ...] = ()

    def encode(self) -> bytes:
        """Return the body of the request."""
        entries: list[_Json] = [
            {"e": one.octets.decode("ascii"), "s": base64.b64encode(one.signature).decode()}
            for one in self.entries
        ]
        return _encoded({"v": _VERSION, "now": time_text(self.now), "entries": entries})


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOperator:
    """Somebody who works at a line; `verifier` checks his badge or PIN, and tells neither."""

    name: str
    verifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalReceipt:
    """What the server has now, and what holds for the station."""

    head: Head
    now: datetime
    """By the server's clock."""
    rules: StationRules
    operators: tuple[LineOperator, ...] = ()
    fault: str = ""
    """Why entries were not taken, as a sentence; empty where all were."""

    def encode(self) -> bytes:
        """Return the body of the answer."""
        texts = texts_of(self.rules)
        rules: dict[str, _Json] = {
            "batches": list(texts.batches),
            "quotas": list(texts.quotas),
            "serials": list(texts.serials),
            "shifts": list(texts.shifts),
            "rate": texts.rate_per_minute,
        }
        operators: list[_Json] = [{"name": one.name, "verifier": one.verifier} for one in self.operators]
        members: dict[str, _Json] = {
            "v": _VERSION,
            "number": self.head.number,
            "hash": self.head.digest,
            "now": time_text(self.now),
            "rules": rules,
            "operators": operators,
            "fault": self.fault,
        }
        return _encoded(members)


def fitting(entries: Iterable[SignedEntry]) -> tuple[SignedEntry, ...]:
    """Return as many of these entries, from the first, as one message takes."""
    found: list[SignedEntry] = []
    room = _ROOM
    for one in entries:
        # JSON escapes each quotation mark of an entry's own.
        room -= (
            len(one.octets) + one.octets.count(b'"') + one.octets.count(b"\\") + 2 * len(one.signature) + 32
        )
        if room < 0 or len(found) == MOST_ENTRIES:
            break
        found.append(one)
    return tuple(found)


def parse_upload(body: bytes) -> JournalUpload:
    """Return what a station sent. Raises `MalformedMessageError`."""
    members = _versioned(body)
    return JournalUpload(
        now=members.time("now"),
        entries=tuple(_entry(one) for one in members.objects("entries", most=MOST_ENTRIES)),
    )


def parse_receipt(body: bytes) -> JournalReceipt:
    """Return what a server answered. Raises `MalformedMessageError`."""
    members = _versioned(body)
    number = members.integer("number", lowest=0, highest=MAX_NUMBER)
    digest = members.sha256("hash")
    if (number == 0) != (digest == GENESIS):
        raise MalformedMessageError("number and hash are not of the same head")
    return JournalReceipt(
        head=Head(number=number, digest=digest),
        now=members.time("now"),
        rules=_rules(members.object("rules")),
        operators=tuple(
            LineOperator(name=one.text("name", longest=64), verifier=one.text("verifier", longest=200))
            for one in members.objects("operators", most=MOST_OPERATORS)
        ),
        fault=members.any_text("fault", longest=500),
    )


def _versioned(body: bytes) -> Fields:
    members = parse_object(body)
    members.integer("v", lowest=_VERSION, highest=_VERSION)
    return members


def _entry(members: Fields) -> SignedEntry:
    octets = members.any_text("e", longest=MAX_ENTRY_BYTES)
    if not octets.isascii():
        raise MalformedMessageError("an entry is ASCII")
    return SignedEntry(octets=octets.encode("ascii"), signature=members.base64("s", longest=_SIGNATURE_BYTES))


def _rules(members: Fields) -> StationRules:
    try:
        return RuleTexts(
            batches=members.texts("batches", longest=_LONGEST_RULE),
            quotas=members.texts("quotas", longest=_LONGEST_RULE),
            serials=members.texts("serials", longest=_LONGEST_RULE),
            shifts=members.texts("shifts", longest=_LONGEST_RULE),
            rate_per_minute=members.integer("rate", lowest=1, highest=1_000_000)
            if "rate" in members
            else None,
        ).read()
    except BadInputError as error:
        raise MalformedMessageError(f"the rules cannot be read: {error}") from error


def _encoded(members: dict[str, _Json]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
