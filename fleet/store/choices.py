"""What single devices get otherwise than the rest: an issuing CA, a trust bundle ahead of its time, settings.

Rollouts make these choices and take them back; whoever issues or tells devices something looks here first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.wire.configuration import AgentConfiguration, NumberedConfiguration
from device_agent.wire.fields import parse_object
from device_agent.wire.identity import Identity
from device_agent.wire.trust import FLEET_REALM, TrustBundle
from fleet.ports import Transaction, Value
from fleet.store import columns

NO_SETTINGS = AgentConfiguration()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldConfiguration:
    """The settings that a device is to have, and the number of those that it says it has."""

    wanted: NumberedConfiguration
    held: int


async def issuer_chosen(tx: Transaction, identity: Identity) -> str:
    """Return the issuing CA that is to sign for a device, hex; empty where nobody has chosen."""
    row = await tx.fetch_one(
        "SELECT issuer FROM issuer_choices WHERE domain = ? AND device_id = ?", _key(identity)
    )
    return "" if row is None else columns.text(row[0])


async def choose_issuers(tx: Transaction, chosen: Sequence[tuple[Identity, str]]) -> None:
    """Choose who signs for devices; empty takes a choice back."""
    await tx.execute_many(
        "INSERT INTO issuer_choices (domain, device_id, issuer) VALUES (?, ?, ?)"
        " ON CONFLICT (domain, device_id) DO UPDATE SET issuer = excluded.issuer",
        [(*_key(identity), issuer) for identity, issuer in chosen if issuer],
    )
    await tx.execute_many(
        "DELETE FROM issuer_choices WHERE domain = ? AND device_id = ?",
        [_key(identity) for identity, issuer in chosen if not issuer],
    )


async def bundle_chosen(tx: Transaction, identity: Identity) -> TrustBundle | None:
    """Return the bundle that a device is told of ahead of the others, or None."""
    row = await tx.fetch_one(
        "SELECT b.body FROM bundle_choices e"
        " JOIN trust_bundles b ON b.realm = e.realm AND b.version = e.version"
        " WHERE e.domain = ? AND e.device_id = ? ORDER BY b.version DESC LIMIT 1",
        _key(identity),
    )
    return None if row is None else TrustBundle.parse(columns.text(row[0]).encode())


async def choose_bundles(
    tx: Transaction, identities: Sequence[Identity], *, realm: str, version: int
) -> None:
    """Have devices told of a bundle before it is in force."""
    await tx.execute_many(
        "INSERT INTO bundle_choices (domain, device_id, realm, version) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (domain, device_id, realm) DO UPDATE SET version = excluded.version",
        [(*_key(identity), realm, version) for identity in identities],
    )


async def drop_bundles(tx: Transaction, identities: Sequence[Identity], *, realm: str) -> None:
    """Tell devices of no bundle ahead of the others any more."""
    await tx.execute_many(
        "DELETE FROM bundle_choices WHERE domain = ? AND device_id = ? AND realm = ?",
        [(*_key(identity), realm) for identity in identities],
    )


async def was_bundle_told(tx: Transaction, realm: str, version: int) -> bool:
    """Tell whether some device is told of a bundle ahead of the others, or says that it took it."""
    chosen = await tx.fetch_one("SELECT 1 FROM bundle_choices WHERE realm = ? LIMIT 1", (realm,))
    column = "server_version" if realm == FLEET_REALM else "own_version"
    took = await tx.fetch_one(
        f"SELECT 1 FROM trust_held WHERE ? IN (domain, ?) AND {column} >= ? LIMIT 1",
        (realm, FLEET_REALM, version),
    )
    return version > 0 and (chosen is not None or took is not None)


async def configuration_of(tx: Transaction, identity: Identity) -> HeldConfiguration | None:
    """Return the settings of a device, or None where it was never given any."""
    row = await tx.fetch_one(
        "SELECT number, settings, held FROM device_configurations WHERE domain = ? AND device_id = ?",
        _key(identity),
    )
    if row is None:
        return None
    wanted = NumberedConfiguration(
        number=columns.number(row[0]), settings=read_settings(columns.text(row[1]))
    )
    return HeldConfiguration(wanted=wanted, held=columns.number(row[2]))


async def configure(
    tx: Transaction, chosen: Sequence[tuple[Identity, AgentConfiguration]], *, number: int
) -> None:
    """Give devices settings under a number that none of them had before."""
    await tx.execute_many(
        "INSERT INTO device_configurations (domain, device_id, number, settings) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (domain, device_id) DO UPDATE SET"
        " number = excluded.number, settings = excluded.settings",
        [(*_key(identity), number, settings_text(settings)) for identity, settings in chosen],
    )


async def note_held(tx: Transaction, identity: Identity, number: int) -> None:
    """Keep which settings a device says that it has."""
    await tx.execute(
        "UPDATE device_configurations SET held = ? WHERE domain = ? AND device_id = ? AND held <> ?",
        (number, *_key(identity), number),
    )


def settings_text(settings: AgentConfiguration) -> str:
    """Return settings as a column holds them: JSON, the same text for the same settings."""
    return json.dumps(settings.members(), sort_keys=True, separators=(",", ":"))


def read_settings(text: str) -> AgentConfiguration:
    """Return the settings that a column holds; empty text stands for none."""
    return AgentConfiguration.read(parse_object(text.encode())) if text else NO_SETTINGS


def _key(identity: Identity) -> tuple[Value, Value]:
    return (identity.domain, identity.device_id)
