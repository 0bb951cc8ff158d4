"""Queries that run while a device waits go by an index: none of them reads a whole table."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest

from device_agent.wire.identity import Identity
from fleet.core.causes import Cause
from fleet.core.history import contact
from fleet.core.things import Thing, ThingKind
from fleet.model import BrokerEventKind
from fleet.ports import Row, Transaction, Value
from fleet.store import (
    allowlist,
    attributes,
    audit,
    certificates,
    claims,
    codes,
    contacts,
    crl_entries,
    devices,
    due,
    inventory,
    listed,
    marks,
    moves,
    notices,
    owners,
    proofs,
    revocations,
    waiting,
    windows,
)
from fleet.store.audit import AuditQuery
from fleet.store.certificates import CertificateQuery
from fleet.store.contacts import ContactQuery, TroubleQuery
from fleet.store.crl_entries import CauseQuery, ChangeQuery, ShardQuery
from fleet.store.due import DueQuery
from fleet.store.inventory import DeviceQuery
from fleet.store.sqlite import memory_store
from fleet.store.windows import HeldQuery

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
D1 = Identity(domain="prod", device_id="d1")
LIKE = contact(kind=BrokerEventKind.REFUSED, place="https", at=NOW, cause=Cause.EXPIRED)
LARGE = (
    "connections",
    "certificates",
    "devices",
    "codes",
    "revocations",
    "holds",
    "audit_entries",
    "audit_details",
    "allowlist_changes",
    "listed",
    "proofs",
    "device_attributes",
    "device_tags",
    "group_members",
    "device_moves",
    "waiting",
    "early_renewals",
    "renewal_hours",
)


class Explaining:
    """A transaction that asks for the plan of every query before it runs it."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.plans: list[str] = []

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        await self._explain(sql, parameters)
        return await self._tx.execute(sql, parameters)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        await self._tx.execute_many(sql, rows)

    async def fetch_one(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None:
        await self._explain(sql, parameters)
        return await self._tx.fetch_one(sql, parameters)

    async def fetch_all(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        await self._explain(sql, parameters)
        return await self._tx.fetch_all(sql, parameters)

    async def _explain(self, sql: str, parameters: Sequence[Value]) -> None:
        plan = await self._tx.fetch_all(f"EXPLAIN QUERY PLAN {sql}", parameters)
        self.plans += [str(row[3]) for row in plan]


async def find_in_batch(tx: Transaction) -> object:
    return await claims.device_ids(tx, claims.Batch(domain="prod", name="b", created_at=NOW))


async def renew(tx: Transaction) -> object:
    device = await devices.load_device(tx, D1)
    assert device is not None
    after = type(device)(identity=D1, suspended=True)
    return await devices.save_device(tx, device, after=after, at=NOW)


Query = Callable[[Transaction], Awaitable[object]]

QUERIES: dict[str, Query] = {
    "status by serial": lambda tx: certificates.load_certificate(tx, "40"),
    "by fingerprint": lambda tx: certificates.find_by_fingerprint(tx, "ab"),
    "reuse of a key": lambda tx: certificates.with_key(tx, "ab"),
    "lineage": lambda tx: certificates.find_lineage(tx, "40"),
    "certificates of a device": lambda tx: certificates.list_certificates(
        tx, CertificateQuery(domain="prod", device_id="d1")
    ),
    "certificates by prefix of the name": lambda tx: certificates.list_certificates(
        tx, CertificateQuery(name_prefix="prod:d")
    ),
    "expiring soon": lambda tx: certificates.expiring(tx, CertificateQuery(ends_before=NOW)),
    "abandoned intents": lambda tx: certificates.abandon_intents(tx, NOW),
    "load a device": lambda tx: devices.load_device(tx, D1),
    "save a device": renew,
    "allowlist of a device": lambda tx: allowlist.of_device(tx, D1),
    "allowlist of a batch": lambda tx: allowlist.of_batch(tx, "prod", "b"),
    "changes of the allowlist": lambda tx: allowlist.changes_after(tx, 7),
    "a page of devices": lambda tx: inventory.list_devices(tx, DeviceQuery(after=("prod", "d1"))),
    "devices of a domain by prefix": lambda tx: inventory.list_devices(
        tx, DeviceQuery(domain="prod", prefix="d")
    ),
    "ids of a batch": find_in_batch,
    "a code by its hash": lambda tx: codes.find_code(tx, "ab"),
    "unconfirmed": lambda tx: due.unconfirmed(tx, DueQuery(before=NOW)),
    "unstamped": lambda tx: due.unstamped(tx, DueQuery(before=NOW)),
    "ended": lambda tx: due.past_end(tx, DueQuery(before=NOW)),
    "past grace": lambda tx: due.past_grace(tx, DueQuery(before=NOW)),
    "revocation by serial": lambda tx: revocations.revocation_of(tx, "40"),
    "devices that should be on hold": lambda tx: devices.hold_what_is_off(tx, NOW),
    "holds by serial": lambda tx: revocations.holds_of(tx, "40"),
    "changes of a revocation list": lambda tx: crl_entries.changes_since(
        tx, ChangeQuery(issuer="1", since=7, ends_from=NOW)
    ),
    "entries for a broker": lambda tx: crl_entries.newest_for_cause(
        tx, CauseQuery(issuer="1", now=NOW, limit=10)
    ),
    "entries of a revocation list": lambda tx: crl_entries.entries_in(
        tx, ShardQuery(issuer="1", first="0000", last="ffff", ends_from=NOW)
    ),
    "waiting": lambda tx: waiting.of_device(tx, D1),
    "waiting by short code": lambda tx: waiting.of_code(tx, "7K3M-9QXZ"),
    "contacts of a device": lambda tx: contacts.search(tx, ContactQuery(domain="prod", device_id="d1")),
    "contacts of a certificate": lambda tx: contacts.search(tx, ContactQuery(serial="40")),
    "contacts from a network": lambda tx: contacts.search(tx, ContactQuery(network=("00", "ff"))),
    "contacts like one": lambda tx: contacts.keep(tx, [LIKE]),
    "refusals of a day": lambda tx: contacts.troubles(tx, TroubleQuery(since=NOW)),
    "refusals by cause": lambda tx: contacts.count_refusals(tx, NOW),
    "waiting for too long": lambda tx: waiting.has_older(tx, NOW),
    "owners of things": lambda tx: listed.owners(
        tx, "prod", [Thing(kind=ThingKind.KEY, value=str(number)) for number in range(3)]
    ),
    "what lists say of a device": lambda tx: listed.listings_of(tx, D1),
    "what admitted a device": lambda tx: proofs.proofs_of(tx, D1),
    "attributes of a device": lambda tx: attributes.attributes_of(tx, D1),
    "what operators know of a device": lambda tx: marks.marks_of(tx, D1),
    "contacts of owners": lambda tx: owners.contacts_of(tx, [D1]),
    "the newest move of a device": lambda tx: moves.newest_move(tx, D1),
    "moves towards a device": lambda tx: moves.open_towards(tx, D1),
    "moves that have arrived": lambda tx: moves.arrived(tx, None),
    "planned renewals": lambda tx: windows.planned_in(tx, (NOW,)),
    "renewals that were held up": lambda tx: windows.held(tx, HeldQuery(since=NOW, until=NOW)),
    "how many were held up": lambda tx: windows.count_held(tx, HeldQuery(since=NOW, until=NOW)),
    "due among some": lambda tx: notices.due_among(tx, [D1]),
    "append to the trail": lambda tx: audit.append_many(tx, ()),
    "story of a device": lambda tx: audit.search_newest(tx, AuditQuery(domain="prod", device_id="d1")),
    "story of a certificate": lambda tx: audit.search(tx, AuditQuery(serial="40")),
    "newest head": lambda tx: audit.newest_head(tx, "acme"),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_reads_no_whole_table(name: str) -> None:
    async def explain(tx: Transaction, query: Query) -> list[str]:
        await devices.insert_device(tx, devices.DeviceRecord(identity=D1, registered_at=NOW))
        explaining = Explaining(tx)
        await query(explaining)
        return explaining.plans

    async with memory_store() as store:
        plans = await store.write(explain, QUERIES[name])
    assert plans
    aliases = {"certificates": "c", "devices": "d", "codes": "k", "revocations": "r"}
    scans = [
        plan
        for plan in plans
        for table in LARGE
        if plan.split()[:2] in (["SCAN", table], ["SCAN", aliases.get(table, table)]) and "USING" not in plan
    ]
    assert scans == []


async def test_the_story_of_a_certificate_goes_by_its_serial() -> None:
    async def explain(tx: Transaction, _argument: None) -> list[str]:
        explaining = Explaining(tx)
        await audit.search(explaining, AuditQuery(serial="40"))
        return explaining.plans

    async with memory_store() as store:
        assert "audit_by_serial" in (await store.read(explain, None))[0]
