"""Remembers which certificate stands behind a client id of the bootstrap listener.

A message of MQTT 3.1.1 does not say it, but the broker's event of its connection did. It is a memory, not a
proof: what is not remembered is asked of the broker, and what the broker does not know is refused.
"""

from collections import OrderedDict

from fleet.model import BrokerEvent, BrokerEventKind, Session
from fleet.ra.shown import ShownCertificate

_REMEMBERED_CLIENTS = 20_000


class Presence:
    """Client id to certificate, the newest connections only."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, ShownCertificate] = OrderedDict()

    def note(self, event: BrokerEvent | Session) -> None:
        """Keep what a connection showed; no second one can have its client id while it lives."""
        if isinstance(event, BrokerEvent) and event.kind is not BrokerEventKind.CONNECTED:
            return
        if ":" in event.name or not event.serial:
            return  # a device's own name: what it has stands in its topics
        self._shown[event.client_id] = ShownCertificate(issuer=event.issuer, serial=event.serial)
        self._shown.move_to_end(event.client_id)
        if len(self._shown) > _REMEMBERED_CLIENTS:
            self._shown.popitem(last=False)

    def find(self, client_id: str) -> ShownCertificate | None:
        """Return what the client id's newest known connection showed."""
        return self._shown.get(client_id)
