"""Topics that many clients share by name, at the embedded broker: the guard's part (shared.c), in Python.

A request leaves its topic before it is routed, and an answer is for one live connection.
"""

from device_agent.wire.problems import MalformedMessageError
from fleet.broker.embedded_table import Connection, Table
from fleet.core import isolation
from fleet.core.isolation import SharedLink


def is_apart(topic: str) -> bool:
    """Say whether a topic is shared, or one of a single connection behind it."""
    return topic.startswith((isolation.PREFIX, isolation.INSIDE))


def inward(connection: Connection, topic: str) -> str | None:
    """Return where a request on a shared topic is heard; None for what is no request."""
    return _link_of(connection).request(topic) if topic.startswith(isolation.PREFIX) else None


def outward(table: Table, topic: str) -> tuple[Connection, str] | None:
    """Return who hears an answer, and where; None where nobody is there to hear it any more."""
    try:
        link, shared = isolation.parse_answer(topic)
    except MalformedMessageError:
        return None
    connection = table.find(link.client_id)
    if connection is None or connection.ended or _link_of(connection) != link:
        return None
    return (connection, shared) if table.may_receive(connection.who, shared) else None


def _link_of(connection: Connection) -> SharedLink:
    who = connection.who
    return SharedLink(
        issuer=connection.shown.issuer, serial=who.serial, client_id=who.client_id, name=connection.name
    )
