"""What answers about people and their acts hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.core.proposal import ActKind, ProposalState
from fleet.core.readmission import ReadmissionState
from fleet.model import Role
from fleet.web.api.terms import (
    COUNT,
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

OF_PEOPLE: Mapping[str, Schema] = {
    "Proposal": record(
        each("proposal", TEXT),
        each("kind", word(tuple(ActKind))),
        each("state", word(tuple(ProposalState))),
        each("role", word(tuple(Role))),
        each("proposed_by selection because", TEXT),
        {"parameters": {"type": "object", "additionalProperties": TEXT}},
        each("reason decided_by outcome", maybe(TEXT)),
        each("devices total", COUNT),
        {"sample": {**list_of(TEXT), "description": "The first of its devices, by name."}},
        {
            "shows": {
                **maybe(TEXT),
                "description": "What else it changes, such as lines of a policy.",
            }
        },
        {"digest": {**SHA256, "description": "Over the names of all that were shown."}},
        each("proposed_at expires_at", TIME),
        each("decided_at", maybe(TIME)),
    ),
    "ProposedDevice": record(each("name", TEXT)),
    "Plea": record(
        each("operator spoken_code", TEXT),
        each("state", word(tuple(ReadmissionState))),
        {"needs": {**maybe(TEXT), "description": "Whose word lets him in."}},
        each("serial", maybe(SERIAL)),
        each("certificate", maybe(PEM)),
    ),
    "Readmission": record(
        each("readmission operator address", TEXT),
        each("state", word(tuple(ReadmissionState))),
        {"proved": {**maybe(TEXT), "description": "`totp`: he has shown a code of his second factor."}},
        each("voices", list_of(TEXT)),
        each("asked_at expires_at", TIME),
        each("decided_at", maybe(TIME)),
        each("serial", maybe(SERIAL)),
    ),
    "SecondFactor": record(
        each("operator", TEXT), each("made_at", TIME), each("confirmed_at", maybe(TIME)), each("locked", FLAG)
    ),
    "NewSecondFactor": record(
        each("operator", TEXT), {"uri": {**TEXT, "description": "otpauth://..., as secret as a key."}}
    ),
    "SecondFactorChange": record(
        each("operator", TEXT), each("done", word(("confirmed", "removed", "reset")))
    ),
}
