"""What answers about the fleet's health and its future hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.web.api.terms import (
    COUNT,
    DEVICE_ID,
    DOMAIN,
    FLAG,
    NUMBER,
    TEXT,
    TIME,
    Schema,
    each,
    list_of,
    maybe,
    record,
)

_PLACE = record({"host": TEXT, "port": COUNT})
_DAY: Schema = {"type": "string", "format": "date", "description": "A day, in UTC."}
_OUTAGE: Schema = record(
    each("until", TIME),
    {"days": list_of(record(each("day", _DAY), each("dark lost", COUNT)))},
    {
        "devices": list_of(
            record(
                each("domain", DOMAIN),
                each("device_id", DEVICE_ID),
                each("not_after", TIME),
                each("lost", FLAG),
            )
        )
    },
)

OF_HEALTH: Mapping[str, Schema] = {
    "Status": record(
        each("fleet", TEXT),
        each("domains", list_of(DOMAIN)),
        each("at", TIME),
        each("serving", FLAG),
        {"endpoints": maybe(record(each("mqtt mqtt_bootstrap https http", _PLACE)))},
        {
            "broker": record(
                each("driver", TEXT), each("sessions", COUNT), each("list_age_seconds", maybe(NUMBER))
            )
        },
        each("devices", {"type": "object", "additionalProperties": COUNT}),
        each("waiting admitted ending_soon audit_entries", COUNT),
        each("unsigned", list_of(TEXT)),
        each("crls_until", maybe(TIME)),
    ),
    "Forecast": record(
        each("at", TIME),
        {
            "lines": list_of(
                record(each("kind", TEXT), each("next", _DAY), {"within": list_of(COUNT)}),
            )
        },
        {
            "weeks": list_of(
                record(
                    each("begins", _DAY),
                    {"ends": {"type": "object", "additionalProperties": COUNT}},
                    each("renewals busiest_hour", COUNT),
                )
            )
        },
        each("attention", list_of(TEXT)),
        {"outage": maybe(_OUTAGE)},
    ),
    "Findings": record(
        {"items": list_of(record(each("check text", TEXT), each("ok", FLAG), each("fix", maybe(TEXT))))},
        {"next": {"type": "null"}},
    ),
}
