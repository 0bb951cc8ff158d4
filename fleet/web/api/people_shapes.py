"""What answers about people and their acts hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.core.proposal import ActKind, ProposalState
from fleet.model import Role
from fleet.web.api.terms import COUNT, FLAG, SHA256, TEXT, TIME, Schema, each, list_of, maybe, record, word

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
        {"digest": {**SHA256, "description": "Over the names of all that were shown."}},
        each("proposed_at expires_at", TIME),
        each("decided_at", maybe(TIME)),
    ),
    "ProposedDevice": record(each("name", TEXT)),
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
