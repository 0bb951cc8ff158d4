"""What answers about marks, groups and owners of devices hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.core.moving import MoveKind, MoveState
from fleet.web.api.terms import (
    COUNT,
    DEVICE_ID,
    DOMAIN,
    FLAG,
    SERIAL,
    TEXT,
    TIME,
    Schema,
    each,
    list_of,
    maybe,
    record,
    ref,
    word,
)

MARKS: Mapping[str, Schema] = {
    **each("model owner agent_version", maybe(TEXT)),
    **each("tags groups", list_of(TEXT)),
}
"""What operators say of a device, and the version of its agent, by its own word."""

_MOVE = {
    **each("domain to_domain", DOMAIN),
    **each("device_id", DEVICE_ID),
    **each("number", COUNT),
    **each("move", word(tuple(MoveKind))),
    **each("state", word(tuple(MoveState))),
    **each("started_at changed_at", TIME),
    **each("started_by", TEXT),
}

OF_INVENTORY: Mapping[str, Schema] = {
    "Selected": record(each("devices fleet_devices", COUNT), each("names", list_of(TEXT))),
    "Marked": record(
        each("found changed", COUNT),
        each("next", {**maybe(TEXT), "description": "The `after` of the next page; null: there is none."}),
    ),
    "Group": record(
        each("group note", TEXT),
        each("query", maybe(TEXT)),
        each("devices", COUNT),
        each("made_at", TIME),
    ),
    "Move": record(_MOVE),
    "Moved": record(
        _MOVE,
        each("code", {**maybe(TEXT), "description": "Told once, here."}),
        each("expires", maybe(TIME)),
        {"sessions": list_of(ref("CutOff"))},
    ),
    "Suspended": record(
        {"suspended": list_of(TEXT), "passed_over": list_of(TEXT), "sessions": list_of(ref("CutOff"))}
    ),
    "Resumed": record(each("resumed passed_over", list_of(TEXT))),
    "Renewing": record(each("found hastened", COUNT)),
    "Discharge": record(
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("retired_at", TIME),
        {"revoked": list_of(SERIAL), "sessions": list_of(ref("CutOff")), "entries": list_of(COUNT)},
        each("verified", FLAG),
        each("problem", maybe(TEXT)),
    ),
    "Owner": record(
        each("owner about", TEXT),
        each("contacts", list_of(TEXT)),
        each("added_at", TIME),
        each("removed_at", maybe(TIME)),
    ),
}
