"""What answers about profiles, dry runs and blocked keys hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.core.goodkey import KeyType
from fleet.core.ruling import Outcome, Step
from fleet.model import Assurance
from fleet.web.api.terms import (
    COUNT,
    DEVICE_ID,
    DOMAIN,
    FLAG,
    NUMBER,
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

_RULING = record(
    each("outcome", word(tuple(Outcome))),
    each("code reason", maybe(TEXT)),
    each("terms", maybe({"type": "object", "additionalProperties": TEXT})),
)
OF_POLICY: Mapping[str, Schema] = {
    "Profile": record(
        each("domain", DOMAIN),
        each("profile", TEXT),
        each("key_types", list_of(word(tuple(KeyType)))),
        each("usages names", list_of(TEXT)),
        {"ways_back": {**list_of(TEXT), "description": "How a device that lost its certificate comes back."}},
        each("assurance", word([level.word for level in Assurance])),
        each("rsa_bits lifetime_days backdate_minutes devices batches", COUNT),
        each("renew_from renew_spread", NUMBER),
        each("same_key approval by_label server_key experimental", FLAG),
    ),
    "Assignment": record(each("domain", DOMAIN), each("profile device_id batch", maybe(TEXT))),
    "DryRun": record(
        each("requests undecided different", COUNT),
        each("since", maybe(TIME)),
        {
            "items": list_of(
                record(
                    each("domain", DOMAIN),
                    each("device_id", DEVICE_ID),
                    each("step", word(tuple(Step))),
                    each("before after", _RULING),
                    each("why", TEXT),
                    each("times", COUNT),
                    each("last_at", TIME),
                )
            )
        },
    ),
    "PolicyApplied": record(each("changed", FLAG), each("profiles", COUNT)),
    "BlockedKey": record(each("key_hash", SHA256), each("reason blocked_by", TEXT), each("blocked_at", TIME)),
    "KeysBlocked": record(each("blocked known", COUNT), each("in_force", list_of(SERIAL))),
}
