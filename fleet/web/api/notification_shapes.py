"""What answers about notifications hold: their schemas, by name, and the words of their filters."""

from collections.abc import Mapping
from enum import StrEnum

from fleet.core.delivery import DeliveryState
from fleet.core.matters import Matter, Severity
from fleet.core.notification import Change
from fleet.web.api.terms import COUNT, FLAG, TEXT, TIME, Schema, each, list_of, maybe, record, word


class Acked(StrEnum):
    """Whether somebody has said that he saw it."""

    YES = "yes"
    NO = "no"


class Weight(StrEnum):
    """How much it matters at least."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


_SEVERITY = word(tuple(each.word for each in Severity))
_DELIVERY = record(
    each("receiver", TEXT),
    each("escalation attempts", COUNT),
    each("state", word(tuple(DeliveryState))),
    each("next_at", maybe(TIME)),
    each("changed_at", TIME),
    each("answer", maybe(TEXT)),
)
_NOTIFICATION: Mapping[str, Schema] = {
    **each("notification count escalated", COUNT),
    **each("id", {**TEXT, "description": "By it a receiver knows what it has already."}),
    **each("rule type", TEXT),
    **each("matter", word(tuple(Matter))),
    **each("severity", _SEVERITY),
    **each("owner acked_by reason", maybe(TEXT)),
    **each("made_at", TIME),
    **each("acked_at", maybe(TIME)),
    **each("deliveries", list_of(_DELIVERY)),
}
_ITEM = record(
    each("change", word(tuple(Change))),
    each("subject text", TEXT),
    each("severity", _SEVERITY),
    each("at", TIME),
)
_TRIAL = record(each("receiver rule answer", TEXT), each("arrived", FLAG), each("hint", maybe(TEXT)))

OF_NOTIFICATIONS: Mapping[str, Schema] = {
    "Notification": record(_NOTIFICATION),
    "WholeNotification": record(_NOTIFICATION, each("items", list_of(_ITEM))),
    "Trials": record({"items": list_of(_TRIAL), "next": maybe(TEXT)}),
}
