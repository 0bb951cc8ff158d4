"""What operators and the server look for in the store: pages, prefixes, keys, lineages, ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.core.station_rules import RuleTexts
from fleet.core.things import Thing, ThingKind
from fleet.errors import StoreError
from fleet.model import (
    Assurance,
    AuditEntry,
    Certificate,
    CertificateState,
    Purpose,
    RevocationReason,
    Role,
    Standing,
)
from fleet.ports import Transaction
from fleet.store import (
    allowlist,
    audit,
    certificates,
    claims,
    columns,
    devices,
    due,
    inventory,
    keys,
    listed,
    meta,
    operators,
    proofs,
    revocations,
    stations,
    times,
    waiting,
)
from fleet.store.audit import AuditQuery
from fleet.store.certificates import CertificateQuery, CertificateRecord, SignedCertificate
from fleet.store.claims import Batch
from fleet.store.codes import GrantKind, code_hash
from fleet.store.devices import DeviceRecord
from fleet.store.due import DueQuery
from fleet.store.inventory import DeviceQuery
from fleet.store.listed import Listing
from fleet.store.operators import OperatorRecord
from fleet.store.proofs import ProofRecord
from fleet.store.sqlite import memory_store
from fleet.store.stations import StationRecord, StationUnit
from fleet.store.waiting import Waiting

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ISSUER = "1" * 40
DAY = timedelta(days=1)


def serial(number: int) -> str:
    return f"40{number:030x}"


OF_ANOTHER = "00" + "a" * 30
"""As a leaf of another CA is called."""


def of_another(record: CertificateRecord) -> CertificateRecord:
    assert record.signed is not None
    signed = replace(record.signed, serial=OF_ANOTHER)
    return replace(record, life=replace(record.life, serial=OF_ANOTHER), signed=signed)


def identity(device_id: str, domain: str = "prod") -> Identity:
    return Identity(domain=domain, device_id=device_id)


def record(
    number: int,
    *,
    device_id: str = "d1",
    state: CertificateState = CertificateState.ACTIVE,
    parent: str | None = None,
    not_after: datetime = NOW + 90 * DAY,
) -> CertificateRecord:
    return CertificateRecord(
        life=Certificate(serial=serial(number), key_hash=f"{number:064x}", state=state, parent=parent),
        purpose=Purpose.DEVICE,
        name=f"prod:{device_id}",
        domain="prod",
        device_id=device_id,
        issuer=ISSUER,
        created_at=NOW,
        changed_at=NOW,
        signed=SignedCertificate(
            serial=serial(number),
            issuer=ISSUER,
            fingerprint=f"{number:064x}",
            not_before=NOW,
            not_after=not_after,
            der=b"der",
            profile="device",
        ),
    )


def own(number: int, purpose: Purpose, name: str, *, batch: str | None = None) -> CertificateRecord:
    return replace(record(number), purpose=purpose, name=name, device_id="", batch=batch)


async def insert(tx: Transaction, records: list[CertificateRecord]) -> list[int | None]:
    return [await certificates.insert_certificate(tx, each) for each in records]


async def register(tx: Transaction, identities: list[Identity]) -> None:
    await devices.insert_devices(tx, [DeviceRecord(identity=each, registered_at=NOW) for each in identities])


@settings(max_examples=20)
@given(
    ids=st.sets(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_:-]{0,3}", fullmatch=True), max_size=25),
    prefix=st.from_regex(r"[A-Za-z0-9_:-]{0,2}", fullmatch=True),
    limit=st.integers(1, 5),
)
async def test_pages_hold_every_device_with_a_prefix_once_and_in_order(
    ids: set[str], prefix: str, limit: int
) -> None:
    async with memory_store() as store:
        await store.write(register, [identity(each) for each in ids])
        found: list[str] = []
        query = DeviceQuery(prefix=prefix, limit=limit)
        while page := await store.read(inventory.list_devices, query):
            found += [each.identity.device_id for each in page]
            query = replace(query, after=("prod", found[-1]))
    assert found == sorted(each for each in ids if each.startswith(prefix))


async def test_a_device_stands_as_its_flags_and_its_certificate_say() -> None:
    async def arrange(tx: Transaction, _argument: None) -> None:
        await register(tx, [identity(each.value) for each in Standing])
        flags = {
            Standing.RETIRED: f"retired_at = '{times.text(NOW)}', revoked = 1",
            Standing.REVOKED: "revoked = 1",
            Standing.ALARMED: "alarm = 1",
            Standing.SUSPENDED: "suspended = 1",
            Standing.ADOPTED: f"current_serial = '{OF_ANOTHER}'",
            Standing.ACTIVE: f"current_serial = '{serial(1)}'",
            Standing.EXPIRED: f"current_serial = '{serial(2)}'",
        }
        for standing, assignment in flags.items():
            await tx.execute(f"UPDATE devices SET {assignment} WHERE device_id = ?", (standing.value,))
        await insert(
            tx,
            [
                record(1, device_id="active"),
                record(2, device_id="expired", state=CertificateState.EXPIRED_GRACE),
                record(3, device_id="enrolling", state=CertificateState.ISSUED),
                of_another(record(4, device_id="adopted")),
            ],
        )

    async with memory_store() as store:
        await store.write(arrange, None)
        listed = await store.read(inventory.list_devices, DeviceQuery())
        assert {each.identity.device_id: each.standing.value for each in listed} == {
            each.value: each.value for each in Standing
        }
        for standing in Standing:
            (only,) = await store.read(inventory.list_devices, DeviceQuery(standing=standing))
            assert only.identity.device_id == standing.value
        assert await store.read(inventory.count_by_standing, "prod") == tuple((each, 1) for each in Standing)


async def test_a_lineage_is_a_certificate_and_all_that_came_of_it() -> None:
    family = [record(1), record(2, parent=serial(1)), record(3, parent=serial(2)), record(4), record(5)]
    async with memory_store() as store:
        await store.write(insert, family)
        found = await store.read(certificates.find_lineage, serial(1))
        assert [each.serial for each in found] == [serial(1), serial(2), serial(3)]
        assert found[0] == family[0]


async def test_a_key_is_found_with_every_certificate_that_has_it() -> None:
    async with memory_store() as store:
        await store.write(insert, [record(1), record(2)])
        (found,) = await store.read(certificates.with_key, f"{2:064x}")
        assert found.serial == serial(2)


async def test_a_certificate_is_found_by_serial_and_by_fingerprint() -> None:
    async with memory_store() as store:
        await store.write(insert, [record(1)])
        assert await store.read(certificates.load_certificate, serial(1)) == record(1)
        assert await store.read(certificates.find_by_fingerprint, f"{1:064x}") == record(1)
        assert await store.read(certificates.load_certificate, serial(2)) is None


async def test_lists_of_certificates_are_restricted_by_all_that_is_asked() -> None:
    async with memory_store() as store:
        await store.write(
            insert,
            [record(1), record(2, device_id="d2", not_after=NOW + DAY), own(3, Purpose.OPERATOR, "ada")],
        )
        for query, expected in (
            (CertificateQuery(), [1, 2, 3]),
            (CertificateQuery(limit=2), [1, 2]),
            (CertificateQuery(after=serial(1)), [2, 3]),
            (CertificateQuery(purpose=Purpose.DEVICE), [1, 2]),
            (CertificateQuery(domain="prod", device_id="d2"), [2]),
            (CertificateQuery(state=CertificateState.REVOKED), []),
            (CertificateQuery(name_prefix="prod:d"), [1, 2]),
            (CertificateQuery(ends_before=NOW + 2 * DAY), [2]),
        ):
            found = await store.read(certificates.list_certificates, query)
            assert [each.serial for each in found] == [serial(number) for number in expected], query
        soon = CertificateQuery(ends_before=NOW + 200 * DAY)
        assert [each.serial for each in await store.read(certificates.expiring, soon)] == [
            serial(2),
            serial(1),
            serial(3),
        ]


async def test_services_and_claims_are_admitted_and_people_are_not() -> None:
    async def arrange(tx: Transaction, _argument: None) -> list[int | None]:
        await claims.insert_batch(tx, Batch(domain="prod", name="line3", created_at=NOW))
        return await insert(
            tx,
            [
                own(1, Purpose.SERVICE, "fleet-server"),
                own(2, Purpose.CLAIM, "prod.line3", batch="line3"),
                own(3, Purpose.OPERATOR, "ada"),
                own(4, Purpose.STATION, "s1"),
                own(5, Purpose.SERVER, "localhost"),
            ],
        )

    async with memory_store() as store:
        assert await store.write(arrange, None) == [1, 2, None, None, None]
        listed = await store.read(allowlist.snapshot, None)
        assert [(each.name, each.purpose) for each in listed.entries] == [
            ("fleet-server", Purpose.SERVICE),
            ("prod.line3", Purpose.CLAIM),
        ]


async def test_an_intent_of_our_own_is_admitted_once_it_is_signed_and_ends_for_good() -> None:
    whole = own(1, Purpose.SERVICE, "fleet-server")
    intent = replace(whole, life=replace(whole.life, state=CertificateState.VOID), signed=None)

    async def sign(tx: Transaction, signed: SignedCertificate) -> int | None:
        return await certificates.sign_certificate(tx, signed, state=CertificateState.ACTIVE, at=NOW)

    async def end(tx: Transaction, ended: str) -> int | None:
        return await certificates.end_certificate(
            tx,
            ended,
            state=CertificateState.REVOKED,
            reason=RevocationReason.KEY_COMPROMISE,
            at=NOW,
        )

    async with memory_store() as store:
        assert await store.write(insert, [intent]) == [None]
        assert whole.signed is not None
        assert await store.write(sign, whole.signed) == 1
        assert await store.read(certificates.load_certificate, serial(1)) == whole
        assert await store.write(end, serial(1)) == 2
        found = await store.read(revocations.revocation_of, serial(1))
    assert found is not None
    assert found.for_cause


async def test_a_batch_that_is_closed_takes_its_claims_off_the_list() -> None:
    batch = Batch(domain="prod", name="line3", created_at=NOW, uses_allowed=2, expires_at=NOW + DAY)

    async def arrange(tx: Transaction, _argument: None) -> None:
        await claims.insert_batch(tx, batch)
        await insert(tx, [own(1, Purpose.CLAIM, "prod.line3", batch="line3")])
        await claims.use_batch(tx, "prod", "line3")

    async def close(tx: Transaction, _argument: None) -> int | None:
        return await claims.close_batch(tx, batch, at=NOW + DAY)

    async def load(tx: Transaction, name: str) -> Batch | None:
        return await claims.load_batch(tx, "prod", name)

    async with memory_store() as store:
        await store.write(arrange, None)
        assert await store.read(load, "line3") == replace(batch, uses=1)
        assert await store.read(claims.claim_serials, batch) == (serial(1),)
        assert await store.write(close, None) == 2
        assert (await store.read(allowlist.snapshot, None)).entries == ()
        (closed,) = await store.read(claims.list_batches, "")
        assert closed.closed_at == NOW + DAY


async def test_what_is_due_is_found_oldest_first_with_the_kind_of_its_grant() -> None:
    async def arrange(tx: Transaction, _argument: None) -> None:
        await register(tx, [identity("d1"), identity("held")])
        await tx.execute("UPDATE devices SET suspended = 1 WHERE device_id = 'held'")
        await insert(
            tx,
            [
                record(1, not_after=NOW - 2 * DAY),
                record(2, state=CertificateState.ISSUED),
                record(3, state=CertificateState.EXPIRED_GRACE, not_after=NOW - 50 * DAY),
                record(4, state=CertificateState.EXPIRED_GRACE, not_after=NOW - 50 * DAY, device_id="held"),
            ],
        )

    async with memory_store() as store:
        await store.write(arrange, None)
        unconfirmed = await store.read(due.unconfirmed, DueQuery(before=NOW + DAY))
        ended = await store.read(due.past_end, DueQuery(before=NOW))
        grace_over = await store.read(due.past_grace, DueQuery(before=NOW - 30 * DAY))
    assert [(each.serial, each.grant) for each in unconfirmed] == [(serial(2), "")]
    assert [each.serial for each in ended] == [serial(1)]
    assert [each.serial for each in grace_over] == [serial(3)]


async def test_the_grace_of_a_device_that_was_held_up_starts_again_when_it_is_let_go() -> None:
    async def arrange(tx: Transaction, resumed_at: datetime) -> None:
        await register(tx, [identity("d1")])
        await tx.execute("UPDATE devices SET resumed_at = ?", (times.text(resumed_at),))
        await insert(tx, [record(1, state=CertificateState.EXPIRED_GRACE, not_after=NOW - 50 * DAY)])

    async with memory_store() as store:
        await store.write(arrange, NOW - 10 * DAY)
        assert await store.read(due.past_grace, DueQuery(before=NOW - 30 * DAY)) == ()
        assert len(await store.read(due.past_grace, DueQuery(before=NOW - 5 * DAY))) == 1


async def test_a_device_that_waits_counts_once_for_each_key() -> None:
    request = Waiting(
        identity=identity("d1"),
        key_hash="a" * 64,
        short_code="ABCD-EFGH",
        claim_serial=serial(1),
        address="192.0.2.1",
        asked_at=NOW,
    )

    async def arrange(tx: Transaction, _argument: None) -> int:
        for each in (request, replace(request, asked_at=NOW + DAY), replace(request, key_hash="b" * 64)):
            await waiting.keep_waiting(tx, each)
        return await waiting.count_waiting(tx, serial(1))

    async with memory_store() as store:
        assert await store.write(arrange, None) == 2
        listed = await store.read(waiting.list_waiting, 10)
        assert [each.key_hash[0] for each in listed] == ["b", "a"]
        assert await store.write(waiting.drop_waiting, identity("d1")) == 2
        assert await store.read(waiting.of_device, identity("d1")) == ()


async def test_a_thing_is_one_devices_in_a_domain_and_the_first_list_stands() -> None:
    thing = Thing(kind=ThingKind.EK, value="a" * 64)
    first = Listing(thing=thing, identity=identity("d1"), source="operator:ada", listed_at=NOW)

    async def arrange(tx: Transaction, _argument: None) -> None:
        await register(tx, [identity("d1"), identity("d2")])
        await listed.insert_listings(tx, [first])
        await listed.insert_listings(tx, [replace(first, identity=identity("d2"))])

    async with memory_store() as store:
        await store.write(arrange, None)
        owners = await store.read(_owners, (thing, replace(thing, kind=ThingKind.KEY)))
        assert owners == {thing: "d1"}
        assert await store.read(listed.listings_of, identity("d1")) == (first,)


async def _owners(tx: Transaction, things: tuple[Thing, ...]) -> dict[Thing, str]:
    return await listed.owners(tx, "prod", things)


async def test_what_admitted_a_key_is_kept_and_only_a_better_proof_takes_its_place() -> None:
    proof = ProofRecord(
        identity=identity("d1"),
        key_hash="a" * 64,
        kind=GrantKind.CODE,
        assurance=Assurance.CODE,
        evidence="a one-time code",
        proved_at=NOW,
    )
    better = replace(proof, kind=GrantKind.TPM, assurance=Assurance.HARDWARE, proved_at=NOW + DAY)

    async def arrange(tx: Transaction, _argument: None) -> None:
        await register(tx, [identity("d1")])
        for each in (proof, better, proof):
            await proofs.keep_proof(tx, each)

    async with memory_store() as store:
        await store.write(arrange, None)
        assert await store.read(proofs.proofs_of, identity("d1")) == (better,)


async def test_a_station_is_known_by_its_certificate_and_remembers_the_last_of_each_unit() -> None:
    station = StationRecord(
        name="s1", domain="prod", rules=RuleTexts(batches=("line3", "line4")).read(), added_at=NOW
    )
    unit = StationUnit(
        station="s1", identity=identity("d1"), outcome="enrolled", serial=serial(2), note="", reported_at=NOW
    )

    async def arrange(tx: Transaction, _argument: None) -> None:
        for batch in station.batches:
            await claims.insert_batch(tx, Batch(domain="prod", name=batch, created_at=NOW))
        await stations.insert_station(tx, station)
        await insert(tx, [own(1, Purpose.STATION, "s1"), own(2, Purpose.OPERATOR, "s1")])
        await stations.record_unit(tx, unit)
        await stations.record_unit(tx, replace(unit, outcome="committed"))

    async with memory_store() as store:
        await store.write(arrange, None)
        assert await store.read(stations.station_of, serial(1)) == station
        assert await store.read(stations.station_of, serial(2)) is None
        assert await store.read(stations.list_units, "s1") == (replace(unit, outcome="committed"),)


async def test_an_operator_that_was_removed_stays_on_record() -> None:
    ada = OperatorRecord(name="ada", role=Role.SECURITY, added_at=NOW)

    async def arrange(tx: Transaction, _argument: None) -> None:
        await operators.insert_operator(tx, ada)
        await operators.remove_operator(tx, "ada", at=NOW + DAY)
        await operators.remove_operator(tx, "ada", at=NOW + 2 * DAY)

    async with memory_store() as store:
        await store.write(arrange, None)
        assert await store.read(operators.list_operators, None) == (replace(ada, removed_at=NOW + DAY),)


async def test_audit_entries_are_found_by_all_that_is_asked() -> None:
    entries = [
        AuditEntry(at=NOW, action=action, actor=actor, domain="prod", device_id=device_id)
        for action, actor, device_id in (
            ("device.registered", "operator:ada", "d1"),
            ("device.registered", "operator:bob", "d2"),
            ("certificate.issued", "device:prod:d1", "d1"),
        )
    ]
    async with memory_store() as store:
        assert await store.write(audit.append_many, entries) == 0
        for query, expected in (
            (AuditQuery(), [0, 1, 2]),
            (AuditQuery(limit=1), [0]),
            (AuditQuery(after=0), [1, 2]),
            (AuditQuery(domain="prod", device_id="d1"), [0, 2]),
            (AuditQuery(actor="operator:bob"), [1]),
            (AuditQuery(action="device.*"), [0, 1]),
            (AuditQuery(action="device"), []),
        ):
            assert [each.number for each in await store.read(audit.search, query)] == expected, query
        newest = await store.read(audit.search_newest, AuditQuery(limit=2))
        assert [each.number for each in newest] == [1, 2]


async def test_numbers_of_revocation_lists_grow_for_each_issuer() -> None:
    async with memory_store() as store:
        taken = [await store.write(revocations.next_crl_number, issuer) for issuer in ("a", "a", "b", "a")]
        raised = await store.write(_above, 41)
        after = await store.write(revocations.next_crl_number, "a")
    assert taken == [1, 2, 1, 3]
    assert (raised, after) == (42, 43)


async def _above(tx: Transaction, floor: int) -> int:
    return await revocations.next_crl_number(tx, "a", floor=floor)


async def test_an_older_revocation_list_never_replaces_a_newer_one() -> None:
    newer = revocations.StoredCrl(
        issuer=ISSUER, number=2, this_update=NOW, next_update=NOW + DAY, der=b"newer"
    )
    async with memory_store() as store:
        await store.write(revocations.save_crl, newer)
        await store.write(revocations.save_crl, replace(newer, number=1, der=b"older"))
        assert await store.read(revocations.load_crl, ISSUER) == newer


async def test_a_blocked_key_stays_blocked_for_its_first_reason() -> None:
    async def block(tx: Transaction, reason: str) -> None:
        await keys.block_key(tx, "a" * 64, reason=reason, at=NOW)

    async with memory_store() as store:
        await store.write(block, "published")
        await store.write(block, "other")
        assert await store.read(keys.blocked_because, "a" * 64) == "published"
        assert await store.read(keys.blocked_because, "b" * 64) is None


async def test_a_fact_is_what_it_was_last_set_to() -> None:
    async def set_name(tx: Transaction, name: str) -> None:
        await meta.set_meta(tx, "fleet", name)

    async with memory_store() as store:
        await store.write(set_name, "one")
        await store.write(set_name, "two")
        assert await store.read(meta.get_meta, "fleet") == "two"


@pytest.mark.parametrize("written", ["0a1b-2c3d", "OA1B 2C3D", "oAib2c3d", "0Al B2C3D\n"])
def test_a_code_is_the_same_however_it_is_typed(written: str) -> None:
    assert code_hash(Secret(written)) == code_hash(Secret("0A1B-2C3D"))


def test_codes_differ_by_a_letter() -> None:
    assert code_hash(Secret("0A1B-2C3D")) != code_hash(Secret("0A1B-2C3E"))


@pytest.mark.parametrize("value", [None, 1, b"x", "no time", "2026-05-01T12:00:00"])
def test_a_column_that_holds_no_time_is_refused(value: str | int | bytes | None) -> None:
    with pytest.raises(StoreError):
        times.moment(value)


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(StoreError, match="the store holds NULL where text belongs"):
        columns.text(None)
    with pytest.raises(StoreError, match="the store holds str where an integer belongs"):
        columns.number("1")
    with pytest.raises(StoreError, match="the store holds int where bytes belongs"):
        columns.octets(1)
