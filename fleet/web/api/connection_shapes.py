"""What answers about connections hold: their schemas, by name."""

from collections.abc import Mapping

from fleet.core.causes import Cause
from fleet.model import BrokerEventKind
from fleet.web.api.terms import COUNT, TEXT, TIME, Schema, each, maybe, record, word

_CAUSE = word(tuple(Cause))
_WHO = {
    **each("place domain device_id name serial address", TEXT),
    **each("first_at last_at", TIME),
    **each("times", COUNT),
}
OF_CONNECTIONS: Mapping[str, Schema] = {
    "Contact": record(
        each("number", COUNT),
        each("kind", word(tuple(BrokerEventKind))),
        each("cause", maybe(_CAUSE)),
        each("ending", maybe(TEXT)),
        _WHO,
    ),
    "Trouble": record(each("cause", _CAUSE), _WHO, each("meaning fix", TEXT)),
}
