"""What else is known of a device: names and values that a template, a webhook or an operator gave."""

import re
from collections.abc import Mapping

from device_agent.wire.identity import Identity
from fleet.ports import Transaction
from fleet.store import columns

OWN_WORD = "template"
"""Source of what a device says of itself."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)  # RFC 1035 2.3.1


async def put_attributes(
    tx: Transaction, identity: Identity, attributes: Mapping[str, str], *, source: str
) -> None:
    """Set attributes of a registered device; those that it has under other names stay.

    What a device says of itself, by a template's parameters, never replaces what somebody else has said.
    """
    await tx.execute_many(
        "INSERT INTO device_attributes (domain, device_id, name, value, source) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (domain, device_id, name) DO UPDATE SET value = excluded.value,"
        " source = excluded.source"
        f" WHERE excluded.source <> '{OWN_WORD}' OR device_attributes.source = '{OWN_WORD}'",
        [
            (identity.domain, identity.device_id, name, value, source)
            for name, value in sorted(attributes.items())
        ],
    )


async def attributes_of(tx: Transaction, identity: Identity) -> dict[str, str]:
    """Return the attributes of a device, by name."""
    rows = await tx.fetch_all(
        "SELECT name, value FROM device_attributes WHERE domain = ? AND device_id = ? ORDER BY name",
        (identity.domain, identity.device_id),
    )
    return {columns.text(name): columns.text(value) for name, value in rows}


async def vouched(tx: Transaction, identity: Identity) -> tuple[tuple[str, str], ...]:
    """Return those attributes that the device has not said of itself, by name."""
    rows = await tx.fetch_all(
        "SELECT name, value FROM device_attributes"
        " WHERE domain = ? AND device_id = ? AND source <> ? ORDER BY name",
        (identity.domain, identity.device_id, OWN_WORD),
    )
    return tuple((columns.text(name), columns.text(value)) for name, value in rows)


async def vouched_labels(tx: Transaction, identity: Identity) -> tuple[tuple[str, str], ...]:
    """Return those attributes that are DNS labels, and that the device has not said of itself.

    Parameters of a template are a device's own words: no name of it is made of them.
    """
    found = await vouched(tx, identity)
    return tuple((name, value) for name, value in found if _LABEL.fullmatch(value))
