"""What a commit changed of a device, as one text for its audit entry; and a device as such a text leaves it.

The audit trail that is kept elsewhere brings a restored database up to date by these texts. They hold states,
serials and hashes, never a code, a key or a certificate; the form never changes for entries that exist.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from device_agent.wire.fields import Fields
from device_agent.wire.problems import MalformedMessageError
from fleet.core.lineage import certificate_of, put
from fleet.model import Alarm, Certificate, CertificateState, ClientKind, Code, Device, StaleHandshake

DETAIL = "became"
"""Name of the detail of an audit entry that holds the text."""

_Json: TypeAlias = "str | int | bool | Sequence[_Json] | Mapping[str, _Json] | None"
_LONGEST = 256
_LARGEST = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantOrigin:
    """What a grant stands on, which the device itself does not tell: its kind, and who or what gave it."""

    kind: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A device after a change, with the origins of the grants that are new in it."""

    device: Device
    origins: Mapping[str, GrantOrigin]
    """By code id."""


_FLAGS: Mapping[str, Callable[[Device], _Json]] = {
    "kind": lambda device: device.kind.value,
    "current": lambda device: device.current,
    "revoked": lambda device: device.revoked,
    "suspended": lambda device: device.suspended,
    "alarm": lambda device: device.alarm.value,
    "code_conflict": lambda device: device.code_conflict,
    "base": lambda device: device.base,
    "readmit": lambda device: device.readmit,
    "stale": lambda device: (
        None if device.stale is None else {"serial": device.stale.serial, "stamp": device.stale.stamp}
    ),
}

_LIFE: Mapping[str, Callable[[Certificate], _Json]] = {
    "key_hash": lambda found: found.key_hash or None,
    "state": lambda found: found.state.value,
    "attempt": lambda found: found.attempt,
    "anchor": lambda found: found.anchor or None,
    "code_id": lambda found: found.code_id,
    "parent": lambda found: found.parent,
    "done_stamp": lambda found: found.done_stamp,
    "issued_stamp": lambda found: found.issued_stamp,
}


def changes(before: Device, after: Device, *, origins: Mapping[str, GrantOrigin]) -> str:
    """Return what is different in `after`, as JSON; the empty text where nothing is.

    `origins` are of the grants that are new in it.
    """
    if before == after:
        return ""
    members: dict[str, _Json] = {
        name: read(after) for name, read in _FLAGS.items() if read(after) != read(before)
    }
    if certificates := _certificates(before, after):
        members["certificates"] = certificates
    if codes := _codes(before, after, origins):
        members["codes"] = codes
    return json.dumps(members, separators=(",", ":"))


def follow(device: Device, text: str) -> Traced:
    """Return the device as `changes` told of it, from the device that it was before.

    Raises:
        MalformedMessageError: the text is none of `changes`, or belongs to another device.
    """
    members = _members(text)
    after = _with_flags(device, Fields(members))
    for serial, row in _objects(members, "certificates"):
        after = put(after, _followed(certificate_of(after, serial), serial, row))
    return _with_codes(after, _objects(members, "codes"))


def states(text: str) -> dict[str, CertificateState | None]:
    """Return the certificates that a change is about, and the state of those that came into one.

    Raises:
        MalformedMessageError: as `follow`.
    """
    return {
        serial: row.word("state", of=CertificateState) if "state" in row else None
        for serial, row in _objects(_members(text), "certificates")
    }


def _members(text: str) -> Mapping[str, object]:
    try:
        members: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError("the change of a device is not JSON") from error
    if not isinstance(members, dict):
        raise MalformedMessageError("the change of a device is no object")
    return members


def _certificates(before: Device, after: Device) -> dict[str, _Json]:
    found: dict[str, _Json] = {}
    for certificate in after.certificates:
        earlier = certificate_of(before, certificate.serial) or _blank(certificate.serial)
        changed = {
            name: read(certificate) for name, read in _LIFE.items() if read(certificate) != read(earlier)
        }
        if changed or certificate_of(before, certificate.serial) is None:
            found[certificate.serial] = changed
    return found


def _codes(before: Device, after: Device, origins: Mapping[str, GrantOrigin]) -> dict[str, _Json]:
    known = {code.code_id: code for code in before.codes}
    kept = {code.code_id: code for code in after.codes}
    found: dict[str, _Json] = {code_id: {"closed": True} for code_id in known if code_id not in kept}
    for code_id, code in kept.items():
        if known.get(code_id) != code:
            found[code_id] = {"key_hash": code.key_hash, **_origin(origins.get(code_id))}
    return found


def _origin(origin: GrantOrigin | None) -> dict[str, _Json]:
    return {} if origin is None else {"kind": origin.kind, "source": origin.source or None}


def _blank(serial: str) -> Certificate:
    return Certificate(serial=serial, key_hash="", state=CertificateState.VOID)


def _with_flags(device: Device, fields: Fields) -> Device:
    names = fields.names()
    return replace(
        device,
        kind=fields.word("kind", of=ClientKind) if "kind" in names else device.kind,
        current=_text(fields, "current", device.current),
        revoked=fields.flag("revoked") if "revoked" in names else device.revoked,
        suspended=fields.flag("suspended") if "suspended" in names else device.suspended,
        alarm=Alarm(fields.integer("alarm", lowest=0, highest=2)) if "alarm" in names else device.alarm,
        code_conflict=fields.flag("code_conflict") if "code_conflict" in names else device.code_conflict,
        base=_text(fields, "base", device.base),
        readmit=fields.flag("readmit") if "readmit" in names else device.readmit,
        stale=_stale(fields) if "stale" in names else device.stale,
    )


def _followed(earlier: Certificate | None, serial: str, fields: Fields) -> Certificate:
    known = earlier or _blank(serial)
    names = fields.names()
    return replace(
        known,
        key_hash=_text(fields, "key_hash", known.key_hash) or "",
        state=fields.word("state", of=CertificateState) if "state" in names else known.state,
        attempt=_number(fields, "attempt", known.attempt) or 0,
        anchor=_text(fields, "anchor", known.anchor) or "",
        code_id=_text(fields, "code_id", known.code_id),
        parent=_text(fields, "parent", known.parent),
        done_stamp=_number(fields, "done_stamp", known.done_stamp),
        issued_stamp=_number(fields, "issued_stamp", known.issued_stamp),
    )


def _with_codes(device: Device, rows: Sequence[tuple[str, Fields]]) -> Traced:
    codes = {code.code_id: code for code in device.codes}
    origins: dict[str, GrantOrigin] = {}
    for code_id, row in rows:
        if "closed" in row:
            codes.pop(code_id, None)
            continue
        codes[code_id] = Code(code_id=code_id, key_hash=_text(row, "key_hash", None))
        if "kind" in row:
            source = _text(row, "source", None) or ""
            origins[code_id] = GrantOrigin(kind=row.text("kind", longest=_LONGEST), source=source)
    return Traced(device=replace(device, codes=tuple(codes.values())), origins=origins)


def _objects(members: Mapping[str, object], name: str) -> list[tuple[str, Fields]]:
    found = members.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise MalformedMessageError(f"{name} must be objects by their names")
    return [(key, Fields(row)) for key, row in found.items()]


def _text(fields: Fields, name: str, known: str | None) -> str | None:
    """Return a text, None where it became none, and what is known where it is not told of."""
    if name not in fields.names():
        return known
    return fields.text(name, longest=_LONGEST) if name in fields else None


def _number(fields: Fields, name: str, known: int | None) -> int | None:
    if name not in fields.names():
        return known
    return fields.integer(name, lowest=-_LARGEST, highest=_LARGEST) if name in fields else None


def _stale(fields: Fields) -> StaleHandshake | None:
    if "stale" not in fields:
        return None
    row = fields.object("stale")
    stamp = row.integer("stamp", lowest=-_LARGEST, highest=_LARGEST)
    return StaleHandshake(serial=row.text("serial", longest=_LONGEST), stamp=stamp)
