"""What answers about marks, groups and owners of devices hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.web.api.terms import COUNT, TEXT, TIME, Schema, each, list_of, maybe, record

MARKS: Mapping[str, Schema] = {
    **each("model owner agent_version", maybe(TEXT)),
    **each("tags groups", list_of(TEXT)),
}
"""What operators say of a device, and the version of its agent, by its own word."""

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
    "Owner": record(
        each("owner about", TEXT),
        each("contacts", list_of(TEXT)),
        each("added_at", TIME),
        each("removed_at", maybe(TIME)),
    ),
}
