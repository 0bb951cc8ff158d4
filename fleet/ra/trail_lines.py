"""The audit trail as lines of JSON: how entries are taken along, archived and kept elsewhere, and read again.

A line holds all that the leaf hash of its entry is made of; what it says of that hash is never believed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_agent.wire.fields import Fields, time_text
from device_agent.wire.problems import MalformedMessageError
from fleet.core.audit import SignedHead, entry_hash
from fleet.errors import BadInputError
from fleet.model import AuditEntry
from fleet.store.audit import StoredEntry
from fleet.store.seal import parse_head

LONGEST_LINE = 1024 * 1024
"""In octets."""
_LONGEST_TEXT = LONGEST_LINE
_LARGEST = 2**53
_EXPORT = "fleet audit export prints one"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """An entry with its number, and its leaf hash as computed: what a line says of it is never believed."""

    number: int
    entry: AuditEntry
    leaf_hash: bytes


def line(stored: StoredEntry) -> str:
    """Return an entry as one line of JSON, with all that its leaf hash is made of."""
    return json.dumps(recorded(stored))


def recorded(stored: StoredEntry) -> Mapping[str, str | int | Sequence[Sequence[str]]]:
    """Return the members of that line; what is empty is left out."""
    entry = stored.entry
    members: Mapping[str, str | int | Sequence[Sequence[str]]] = {
        "number": stored.number,
        "at": time_text(entry.at),
        "action": entry.action,
        "actor": entry.actor,
        "domain": entry.domain,
        "device_id": entry.device_id,
        "serial": entry.serial,
        "details": [list(detail) for detail in entry.details],
        "leaf_hash": stored.leaf_hash.hex(),
    }
    return {name: value for name, value in members.items() if value not in ("", [])}


def parse_line(line: bytes, number: int) -> KeptEntry | SignedHead:
    """Return what one line of an exported trail holds; `number` is the line's, from 1.

    Raises:
        BadInputError: it is neither an entry nor a head, or an entry that its own hash does not fit.
    """
    try:
        members: object = json.loads(line) if len(line) <= LONGEST_LINE else None
        if not isinstance(members, dict):
            raise MalformedMessageError("it is no JSON object")
        if "signature" in members:
            return parse_head(line)
        fields = Fields(members)
        position, entry = fields.integer("number", lowest=0, highest=_LARGEST), _entry(fields, members)
        kept = KeptEntry(number=position, entry=entry, leaf_hash=entry_hash(position, entry))
        claimed = fields.sha256("leaf_hash")
    except (ValueError, RecursionError, MalformedMessageError) as error:
        raise BadInputError(f"line {number} of the kept trail is no entry: {error}", hint=_EXPORT) from error
    if kept.leaf_hash.hex() != claimed:
        raise BadInputError(f"line {number} of the kept trail was changed", hint="take another copy of it")
    return kept


def _entry(fields: Fields, members: dict[str, object]) -> AuditEntry:
    return AuditEntry(
        at=fields.time("at"),
        action=fields.text("action", longest=_LONGEST_TEXT),
        actor=fields.text("actor", longest=_LONGEST_TEXT),
        domain=_text(members, "domain"),
        device_id=_text(members, "device_id"),
        serial=_text(members, "serial"),
        details=_details(members.get("details", [])),
    )


def _text(members: dict[str, object], name: str) -> str:
    found = members.get(name, "")
    if isinstance(found, str):
        return found
    raise MalformedMessageError(f"{name} must be text")


def _details(value: object) -> tuple[tuple[str, str], ...]:
    rows = value if isinstance(value, list) else [None]
    found: list[tuple[str, str]] = []
    for row in rows:
        match row:
            case [str() as name, str() as text]:
                found.append((name, text))
            case _:
                raise MalformedMessageError("details must be pairs of texts")
    return tuple(found)
