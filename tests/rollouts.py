"""Devices in the field for rollouts: rows as the server would have left them, changed by its own units."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity
from device_agent.wire.notices import StateReport
from fleet.core.rollout import RolloutEvent
from fleet.core.rollout_plan import Rollout
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.model import CertificateState, ClientKind
from fleet.ports import Transaction
from fleet.ra.campaigns.conduct import Pace, tick
from fleet.ra.campaigns.orders import Order, give_order
from fleet.ra.campaigns.planning import Planned, PlanOrder, plan_rollout
from fleet.ra.campaigns.views import View, show
from fleet.ra.requests.held_trust import note_state
from fleet.store import times
from fleet.store.devices import (
    DeviceRecord,
    insert_devices,
    load_device,
    load_record,
    mark_seen,
    save_device,
)
from tests.desk import Desk

OPERATOR = "operator:test"
PLAN = """
[rollout]
name = "{name}"
kind = "{kind}"
select = "{select}"
waves = {waves}
rate_per_minute = 3000
{more}
[gate]
updated = 0.9
failed = 0.1
patience = "10m"
soak = "5m"
{gate}
"""


def plan_text(
    name: str = "spring",
    *,
    kind: str = "rekey",
    select: str = "all",
    waves: str = '["2", "rest"]',
    more: str = "",
    gate: str = "",
) -> str:
    """Return a plan with a gate of ten minutes' patience."""
    return PLAN.format(name=name, kind=kind, select=select, waves=waves, more=more, gate=gate)


@dataclass(frozen=True, kw_only=True)
class Plant:
    """Devices that have an active certificate by their rows."""

    names: tuple[str, ...]
    issuer: str
    at: datetime
    kind: ClientKind = ClientKind.AGENT
    domain: str = "prod"
    lives: timedelta = timedelta(days=90)


@dataclass(kw_only=True)
class Field:
    """A fleet at a desk, its devices simulated by their rows alone."""

    desk: Desk
    pace: Pace

    async def plant(self, *names: str, domain: str = "prod", kind: ClientKind = ClientKind.AGENT) -> None:
        """Have devices with an active certificate."""
        issuer = self.desk.context.authority.issuers[0].issuer_id
        plant = Plant(names=names, issuer=issuer, at=self.desk.clock(), domain=domain, kind=kind)
        await self.desk.context.store.write(plant_devices, plant)

    async def plan(self, text: str) -> Planned:
        return await plan_rollout(self.desk.context, PlanOrder(text=text, actor=OPERATOR))

    async def order(self, event: RolloutEvent, name: str = "spring", **more: object) -> Rollout:
        order = Order(name=name, event=event, actor=OPERATOR)
        return await give_order(self.desk.context, replace(order, **more))  # type: ignore[arg-type]

    async def tick(self, *, after: timedelta = timedelta(seconds=1)) -> None:
        """Let time pass, and the server do what is due."""
        self.desk.clock.forward(after)
        await tick(self.desk.context, self.pace)

    async def view(self, name: str = "spring") -> View:
        return await show(self.desk.context, name)

    async def renew(self, *names: str, profile: str = "", issuer: str = "") -> None:
        """Let devices come back with a new certificate, confirmed."""
        change = _Renewal(names=names, at=self.desk.clock(), profile=profile, issuer=issuer)
        await self.desk.context.store.write(_renew, change)

    async def seen(self, *names: str) -> None:
        """Let devices connect, and nothing else."""
        await self.desk.context.store.write(_seen, _Renewal(names=names, at=self.desk.clock()))

    async def in_state(self, state: str, name: str = "spring") -> set[str]:
        """Return which devices of a rollout stand so."""
        return await self.desk.context.store.read(_in_state, (name, state))

    async def trouble(self, name: str, word: str) -> None:
        """Let a device say in its state that something is wrong."""
        identity = Identity(domain="prod", device_id=name)
        report = StateReport(agent="1", serial="40" * 16, problem=word)
        await note_state(self.desk.context, identity, report.encode())

    async def profile_of(self, name: str) -> str:
        record = await self.desk.context.store.read(load_record, Identity(domain="prod", device_id=name))
        assert record is not None
        return record.profile

    async def serial_of(self, name: str) -> str:
        device = await self.desk.context.store.read(load_device, Identity(domain="prod", device_id=name))
        assert device is not None
        return device.current or ""

    async def first_of_the_pilot(self, count: int) -> list[str]:
        """Return who would be told first."""
        return await self.desk.context.store.read(_first, count)

    async def rows(self) -> int:
        """Return how many rows of rollouts there are."""
        return await self.desk.context.store.read(_rows, None)

    async def due(self) -> set[str]:
        """Return which devices' current certificates are due before their time."""
        return await self.desk.context.store.read(_due, None)

    async def actions(self) -> list[str]:
        """Return what the trail tells of rollouts, in order."""
        return await self.desk.context.store.read(_actions, None)


@dataclass(frozen=True, kw_only=True)
class _Renewal:
    names: Sequence[str]
    at: datetime
    profile: str = ""
    issuer: str = ""


def serial_of(at: datetime, name: str, above: str | None = None) -> str:
    randomness = hashlib.sha256(f"{at} {name}".encode()).digest()[:SERIAL_RANDOMNESS]
    return new_serial(now=at, randomness=randomness, above=above)


async def plant_devices(tx: Transaction, plant: Plant) -> None:
    """Write them."""
    identities = [Identity(domain=plant.domain, device_id=name) for name in plant.names]
    await insert_devices(
        tx,
        [DeviceRecord(identity=one, registered_at=plant.at, kind=plant.kind) for one in identities],
    )
    for identity in identities:
        serial = serial_of(plant.at, identity.name)
        await _certificate(tx, identity, serial, plant.at, issuer=plant.issuer, ends=plant.at + plant.lives)


async def _certificate(
    tx: Transaction,
    identity: Identity,
    serial: str,
    at: datetime,
    *,
    issuer: str,
    ends: datetime,
    profile: str = "device",
    parent: str | None = None,
) -> None:
    await tx.execute(
        "INSERT INTO certificates (serial, purpose, name, domain, device_id, key_hash, state, profile,"
        " issuer, fingerprint, not_before, not_after, der, created_at, changed_at, parent)"
        " VALUES (?, 'device', ?, ?, ?, ?, 'active', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            serial,
            identity.name,
            identity.domain,
            identity.device_id,
            serial * 2,
            profile,
            issuer,
            serial * 2,
            times.text(at),
            times.text(ends),
            b"der",
            times.text(at),
            times.text(at),
            parent,
        ),
    )
    await tx.execute(
        "UPDATE devices SET current_serial = ? WHERE domain = ? AND device_id = ?",
        (serial, identity.domain, identity.device_id),
    )


async def _renew(tx: Transaction, renewal: _Renewal) -> None:
    for name in renewal.names:
        identity = Identity(domain="prod", device_id=name)
        before = await load_device(tx, identity)
        assert before is not None
        assert before.current is not None
        row = await tx.fetch_one("SELECT issuer FROM certificates WHERE serial = ?", (before.current,))
        assert row is not None
        serial = serial_of(renewal.at, identity.name, above=before.current)
        await _certificate(
            tx,
            identity,
            serial,
            renewal.at,
            issuer=renewal.issuer or str(row[0]),
            ends=renewal.at + timedelta(days=90),
            profile=renewal.profile or "device",
            parent=before.current,
        )
        middle = await load_device(tx, identity)
        assert middle is not None
        after = replace(
            middle,
            certificates=tuple(
                replace(one, state=CertificateState.SUPERSEDED) if one.serial == before.current else one
                for one in middle.certificates
            ),
        )
        await save_device(tx, middle, after=after, at=renewal.at)


async def _seen(tx: Transaction, renewal: _Renewal) -> None:
    for name in renewal.names:
        await mark_seen(tx, Identity(domain="prod", device_id=name), renewal.at)


async def _in_state(tx: Transaction, asked: tuple[str, str]) -> set[str]:
    rows = await tx.fetch_all(
        "SELECT r.device_id FROM rollout_devices r JOIN rollouts x ON x.number = r.rollout"
        " WHERE x.name = ? AND r.state = ?",
        asked,
    )
    return {str(row[0]) for row in rows}


async def _first(tx: Transaction, count: int) -> list[str]:
    rows = await tx.fetch_all(
        "SELECT device_id FROM rollout_devices WHERE wave = 1 ORDER BY place LIMIT ?", (count,)
    )
    return [str(row[0]) for row in rows]


async def _rows(tx: Transaction, _argument: None) -> int:
    row = await tx.fetch_one(
        "SELECT (SELECT COUNT(*) FROM rollouts) + (SELECT COUNT(*) FROM rollout_waves)"
        " + (SELECT COUNT(*) FROM rollout_devices)"
    )
    return 0 if row is None else int(str(row[0]))


async def _due(tx: Transaction, _argument: None) -> set[str]:
    rows = await tx.fetch_all(
        "SELECT d.device_id FROM devices d JOIN early_renewals e ON e.serial = d.current_serial"
    )
    return {str(row[0]) for row in rows}


async def _actions(tx: Transaction, _argument: None) -> list[str]:
    rows = await tx.fetch_all(
        "SELECT action FROM audit_entries WHERE action LIKE 'rollout.%' ORDER BY number"
    )
    return [str(row[0]).removeprefix("rollout.") for row in rows]
