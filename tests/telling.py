"""Telling people, for tests: rules, a channel in memory, and devices whose certificates come to their end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from device_agent.wire.identity import Identity
from fleet.core.delivery import DeliveryState
from fleet.core.letter import Letter
from fleet.core.matters import Matter
from fleet.core.notification_rule import Receiver, Rule
from fleet.errors import FleetError
from fleet.model import AuditEntry
from fleet.ports import Transaction, Value
from fleet.ra.context import Context
from fleet.ra.finding import Finding
from fleet.ra.telling.delivering import deliver
from fleet.ra.telling.facts import QUICK
from fleet.ra.telling.telling import survey, turn
from fleet.store import audit, times
from fleet.store.audit import AuditQuery
from fleet.store.deliveries import Delivery, NotificationQuery, deliveries_of, list_notifications
from tests.desk import Desk

LOG = Receiver(channel="log")
MAIL = Receiver(channel="mail", address="ops@example.org")


@dataclass(kw_only=True)
class MemoryCarrier:
    """Keeps what it is given, or fails as it is told, once for each error."""

    fails: list[FleetError] = field(default_factory=list)
    letters: list[tuple[Letter, str]] = field(default_factory=list)
    wrong: FleetError | None = None

    async def carry(self, letter: Letter, address: str) -> str:
        if self.fails:
            raise self.fails.pop(0)
        self.letters.append((letter, address))
        return "taken"

    def check(self) -> None:
        if self.wrong is not None:
            raise self.wrong


@dataclass(kw_only=True)
class Told:
    """A context whose rules tell over channels in memory."""

    context: Context
    desk: Desk
    carriers: dict[str, MemoryCarrier]
    findings: list[Finding] = field(default_factory=list)

    async def look(self) -> None:
        """Do what the server does every five minutes, and at each turn."""
        await survey(self.context, set(Matter) - QUICK, examine=self._examine)
        await turn(self.context)

    async def deliver(self) -> int:
        """Try what is due on every channel."""
        return sum([await deliver(self.context, name) for name in self.carriers])

    async def all(self) -> None:
        await self.look()
        await self.deliver()

    def letters(self, channel: str = "log") -> list[Letter]:
        return [letter for letter, _ in self.carriers[channel].letters]

    def forward(self, **length: int) -> None:
        self.desk.clock.forward(timedelta(**length))

    async def states(self) -> list[DeliveryState]:
        return [one.state for one in await self.deliveries()]

    async def deliveries(self) -> list[Delivery]:
        rows = await self.context.store.read(list_notifications, NotificationQuery(limit=1000))
        found = await self.context.store.read(deliveries_of, [row.number for row in rows])
        return [one for row in reversed(rows) for one in found[row.number]]

    async def _examine(self, _context: Context) -> list[Finding]:
        return self.findings


def told(desk: Desk, *rules: Rule, channels: Iterable[str] = ("log", "mail"), **settings: object) -> Told:
    """Return a desk with these rules, and channels of these names."""
    carriers = {name: MemoryCarrier() for name in channels}
    config = desk.context.config
    notice = replace(config.notice, rules=rules, **settings)  # type: ignore[arg-type]  # a test names fields
    desk.context.in_force.replace(config=replace(config, notice=notice))
    return Told(context=replace(desk.context, carriers=carriers), desk=desk, carriers=carriers)


def rule(*matters: Matter, **settings: object) -> Rule:
    """Return a rule that tells the log, at once."""
    usual: dict[str, object] = {"name": "all", "to": (LOG,), "gather": timedelta(0)}
    return Rule(matters=frozenset(matters), **{**usual, **settings})  # type: ignore[arg-type]  # as above


async def amend(context: Context, sql: str, *parameters: Value) -> None:
    """Change a record behind everybody's back, as only a test may."""
    await context.store.write(_execute, (sql, parameters))


async def _execute(tx: Transaction, statement: tuple[str, tuple[Value, ...]]) -> int:
    return await tx.execute(*statement)


async def end_certificate_at(context: Context, identity: Identity, end: datetime) -> None:
    """Have the current certificate of a device end at a time."""
    await amend(
        context,
        "UPDATE certificates SET not_after = ? WHERE serial = (SELECT current_serial FROM devices"
        " WHERE domain = ? AND device_id = ?)",
        times.text(end),
        identity.domain,
        identity.device_id,
    )


async def make_current(context: Context, identity: Identity) -> None:
    """Have the newest certificate of a device be the one that it uses."""
    key = (identity.domain, identity.device_id)
    await amend(
        context,
        "UPDATE devices SET current_serial = (SELECT MAX(serial) FROM certificates c"
        " WHERE c.domain = devices.domain AND c.device_id = devices.device_id)"
        " WHERE domain = ? AND device_id = ?",
        *key,
    )
    await amend(context, "UPDATE certificates SET state = 'active' WHERE domain = ? AND device_id = ?", *key)


async def ending(desk: Desk, count: int, *, days: int) -> list[Identity]:
    """Enroll devices whose certificates end in so many days."""
    found = []
    for number in range(count):
        device_id = f"d{number:03}"
        await desk.enrolled(device_id)
        identity = Identity(domain="prod", device_id=device_id)
        await make_current(desk.context, identity)
        await end_certificate_at(desk.context, identity, desk.clock() + timedelta(days=days))
        found.append(identity)
    return found


async def crowd(desk: Desk, count: int, *, days: int) -> None:
    """Put devices on record by the hundred, whose certificates end in so many days."""
    await desk.context.store.write(_fill, (count, times.text(desk.clock() + timedelta(days=days))))


async def _fill(tx: Transaction, wanted: tuple[int, str]) -> None:
    count, end = wanted
    names = [(f"{(0x40 << 120) + number:032x}", f"c{number:05}") for number in range(count)]
    await tx.execute_many(
        "INSERT INTO devices (domain, device_id, kind, registered_at, current_serial)"
        " VALUES ('prod', ?, 'agent', ?, ?)",
        [(device_id, end, serial) for serial, device_id in names],
    )
    await tx.execute_many(
        "INSERT INTO certificates (serial, purpose, name, domain, device_id, key_hash, state, not_after,"
        " created_at, changed_at) VALUES (?, 'device', ?, 'prod', ?, '', 'active', ?, ?, ?)",
        [(serial, f"prod:{device_id}", device_id, end, end, end) for serial, device_id in names],
    )


async def entry(desk: Desk, action: str, *details: tuple[str, str], device: str = "") -> None:
    made = AuditEntry(
        at=desk.clock(),
        action=action,
        actor=f"device:prod:{device}" if device else "server",
        domain="prod" if device else "",
        device_id=device,
        details=details,
    )
    await desk.context.store.write(audit.append, made)


async def trail(desk: Desk, action: str) -> Sequence[AuditEntry]:
    return [one.entry for one in await desk.context.store.read(audit.search, AuditQuery(action=action))]
