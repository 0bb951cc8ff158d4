"""What answers about the audit trail hold, and what proves it: their schemas, by name."""

from collections.abc import Mapping

from fleet.core.story import Came
from fleet.web.api.terms import (
    COUNT,
    FLAG,
    SHA256,
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

_HEAD: Schema = {
    **record(
        each("log", TEXT),
        each("size", COUNT),
        each("root", SHA256),
        each("at", TIME),
        {"signature": {**TEXT, "description": "Of the audit key, base64."}},
    ),
    "description": "A signed head of the trail: its entries, their root (RFC 9162 2.1.1), and when.",
}
_RECORDED: Schema = {
    "type": "object",
    "properties": {
        "number": COUNT,
        "at": TIME,
        **each("action actor domain device_id serial", TEXT),
        "details": list_of(list_of(TEXT)),
        "leaf_hash": SHA256,
    },
    "required": ["number", "at", "leaf_hash"],
    "description": "An entry as it is hashed; what is empty is left out.",
}
_ENTRY: Mapping[str, Schema] = {
    **each("number", COUNT),
    **each("at", TIME),
    **each("action actor domain device_id serial", TEXT),
    **each("details", {"type": "object", "additionalProperties": TEXT}),
}
OF_THE_AUDIT: Mapping[str, Schema] = {
    "Note": record(each("backup", TEXT), each("number", COUNT)),
    "Unfrozen": record(each("since", TIME)),
    "Entry": record(_ENTRY),
    "Decision": record(
        _ENTRY,
        {"step": {**TEXT, "description": "As device, server and command line all call it."}},
        {"came": word(tuple(Came))},
        {"rule": {**TEXT, "description": "Which rule decided; of a refusal its code."}},
        {"saw": {**TEXT, "description": "What it decided on."}},
        {"advice": maybe({**TEXT, "description": "What to do now."})},
    ),
    "Entries": record({"items": list_of(ref("Entry")), "next": {"type": "null"}}),
    "AuditVerdict": record(
        each("whole", FLAG),
        each("size heads", COUNT),
        {"archived": {**COUNT, "description": "Entries of which the hash alone is here still."}},
        each("root", maybe(SHA256)),
        each("signed_at", maybe(TIME)),
        each("findings", list_of(record(each("first last", COUNT), each("text", TEXT)))),
    ),
    "AuditRecords": record(
        each("devices", COUNT),
        {"differences": list_of(record(each("name", TEXT), each("what", list_of(TEXT))))},
    ),
    "AuditArchives": record(
        {
            "items": list_of(
                record(
                    each("first last", COUNT),
                    each("file", TEXT),
                    each("sha256", SHA256),
                    each("archived_at", TIME),
                )
            ),
            "next": {"type": "null"},
        }
    ),
    "AuditWitnesses": record(
        {
            "items": list_of(
                record(
                    each("name", TEXT),
                    {"url": maybe(TEXT)},
                    each("size", COUNT),
                    each("cosigned_at tried_at", maybe(TIME)),
                    {"problem": {**TEXT, "description": "Why the last try failed; empty where it did not."}},
                )
            ),
            "next": {"type": "null"},
        }
    ),
    "AuditCheckpoint": record(each("key note", TEXT)),
    "AuditHead": _HEAD,
    "AuditProof": record(
        {"head": _HEAD},
        each("earlier_size", COUNT),
        each("consistency", list_of(SHA256)),
        {"entry": maybe(_RECORDED)},
        {"inclusion": maybe(list_of(SHA256))},
    ),
}
