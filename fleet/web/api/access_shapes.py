"""What answers about the access policy and backends hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.grants import Action, Effect
from fleet.web.api.terms import (
    COUNT,
    DEVICE_ID,
    DOMAIN,
    FLAG,
    PEM,
    SERIAL,
    SHA256,
    TEXT,
    TIME,
    Schema,
    each,
    list_of,
    maybe,
    record,
    word,
)

_CHECKED = {
    **each("digest", SHA256),
    **each("asks", list_of(TEXT)),
    **each(
        "rules",
        list_of(
            record(each("rule", TEXT), each("effect", word(tuple(Effect))), each("line certificates", COUNT))
        ),
    ),
}
_DECIDED = {
    **each("allowed protocols", FLAG),
    **each("rule pattern", maybe(TEXT)),
    **each("line", maybe(COUNT)),
}
_VERSION = {**each("number", COUNT), **each("text", TEXT)}
_SERVICE = {
    **each("service", TEXT),
    **each("reads writes", list_of(TEXT)),
    **each("added_at", TIME),
    **each("revoked_at", maybe(TIME)),
}
OF_ACCESS: Mapping[str, Schema] = {
    "AccessPolicy": record(
        _VERSION, each("applied_at", maybe(TIME)), each("actor", maybe(TEXT)), each("differs", FLAG), _CHECKED
    ),
    "AccessUser": record(
        each("name issuer", TEXT),
        each("serial", SERIAL),
        each("fingerprint", SHA256),
        each("not_after", TIME),
        each("users roles", list_of(TEXT)),
    ),
    "AccessVersion": record(_VERSION, each("digest", SHA256), each("applied_at", TIME), each("actor", TEXT)),
    "AccessChecked": record(_CHECKED),
    "AccessApplied": record(each("number", COUNT), each("changed everywhere", FLAG), each("digest", SHA256)),
    "AccessTrial": record(
        each("decisions different", COUNT),
        each("since", maybe(TIME)),
        each(
            "items",
            list_of(
                record(
                    each("name topic", TEXT),
                    each("verb", word(tuple(Action))),
                    each("before after", record(_DECIDED)),
                    each("times", COUNT),
                    each("last_at", TIME),
                )
            ),
        ),
    ),
    "AccessExplained": record(
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("verb", word(tuple(Action))),
        each("topic", TEXT),
        each("admitted", FLAG),
        _DECIDED,
        each("facts", {"type": "object", "additionalProperties": list_of(TEXT)}),
        each(
            "lacking",
            list_of(record(each("rule", TEXT), each("line", COUNT), each("conditions", list_of(TEXT)))),
        ),
        each("roles users", list_of(TEXT)),
    ),
    "Service": record(_SERVICE, each("serial", maybe(SERIAL)), each("not_after", maybe(TIME))),
    "NewService": record(_SERVICE, each("serial", SERIAL), each("not_after", TIME), each("certificate", PEM)),
    "RevokedService": record(each("service", TEXT), each("revoked", list_of(SERIAL))),
}
