"""Remembers which certificate and address stand behind a client id of the bootstrap listener.

A message of MQTT 3.1.1 does not say it, but the broker's event of its connection did. It is a memory, not a
proof: what is not remembered is asked of the broker, and what the broker does not know is refused.
"""

from collections import OrderedDict
from typing import NamedTuple

from fleet.model import BrokerEvent, BrokerEventKind, Session
from fleet.ra.shown import ShownCertificate

_REMEMBERED_CLIENTS = 20_000


class _Seen(NamedTuple):
    shown: ShownCertificate
    address: str


class Presence:
    """Client id to certificate and address, the newest connections only."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def note(self, event: BrokerEvent | Session) -> None:
        """Keep what a connection showed; no second one can have its client id while it lives."""
        if isinstance(event, BrokerEvent) and event.kind is not BrokerEventKind.CONNECTED:
            return
        if ":" in event.name or not event.serial:
            return  # a device's own name: what it has stands in its topics
        shown = ShownCertificate(issuer=event.issuer, serial=event.serial)
        self._seen[event.client_id] = _Seen(shown, event.address)
        self._seen.move_to_end(event.client_id)
        if len(self._seen) > _REMEMBERED_CLIENTS:
            self._seen.popitem(last=False)

    def find(self, client_id: str) -> ShownCertificate | None:
        """Return what the client id's newest known connection showed."""
        seen = self._seen.get(client_id)
        return None if seen is None else seen.shown

    def address_of(self, client_id: str) -> str:
        """Return where the client id's newest known connection came from, or the empty text."""
        seen = self._seen.get(client_id)
        return "" if seen is None else seen.address
