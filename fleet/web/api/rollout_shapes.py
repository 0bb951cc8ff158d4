"""What answers about rollouts hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.core.rollout import DeviceState, RolloutKind, RolloutState, Verdict
from fleet.core.rollout_plan import OnHalt
from fleet.web.api.terms import (
    COUNT,
    DEVICE_ID,
    DOMAIN,
    FLAG,
    NUMBER,
    SERIAL,
    TEXT,
    TIME,
    Schema,
    each,
    list_of,
    maybe,
    record,
    word,
)

_WHAT = {
    **each("name select", TEXT),
    **each("kind", word(tuple(RolloutKind))),
    **each("target", maybe(TEXT)),
}
_ROLLOUT = {
    **each("number version wave waves", COUNT),
    **_WHAT,
    **each("state", word(tuple(RolloutState))),
    **each("reason", maybe(TEXT)),
    **each("planned_by changed_by", TEXT),
    **each("planned_at changed_at", TIME),
    **each("started_at", maybe(TIME)),
}
_COURSE = each(
    "soonest latest", {**maybe(TIME), "description": "When it would be over, if no gate halts it."}
)
_TALLY = each(" ".join(DeviceState), COUNT)
OF_ROLLOUTS: Mapping[str, Schema] = {
    "Rollout": record(_ROLLOUT),
    "PlannedRollout": record(
        _WHAT,
        each("saved", FLAG),
        each("devices", COUNT),
        each("left_out", list_of(record(each("reason", TEXT), each("devices", COUNT)))),
        each("planned_waves", list_of(record(each("name size", TEXT), each("devices", COUNT)))),
        _COURSE,
    ),
    "RolloutView": record(
        _ROLLOUT,
        each("devices rate_per_minute", COUNT),
        _TALLY,
        each(
            "told_waves",
            list_of(
                record(
                    each("wave devices forgiven", COUNT),
                    each("name", TEXT),
                    _TALLY,
                    each("began_at settled_at passed_at", maybe(TIME)),
                )
            ),
        ),
        each("verdict", maybe(word(tuple(Verdict)))),
        each("rule because note", maybe(TEXT)),
        each(
            "gate",
            record(each("updated failed", NUMBER), each("least patience_seconds soak_seconds", COUNT)),
        ),
        each("windows", list_of(TEXT)),
        each("window_is_open", FLAG),
        each("ends", maybe(TIME)),
        each("on_halt", word(tuple(OnHalt))),
        each("roll_back", TEXT),
        _COURSE,
    ),
    "RolloutDevice": record(
        each("domain", DOMAIN),
        each("device_id", DEVICE_ID),
        each("wave", COUNT),
        each("state", word(tuple(DeviceState))),
        each("reason", maybe(TEXT)),
        each("serial", maybe(SERIAL)),
        each("told_at last_seen_at", maybe(TIME)),
    ),
}
