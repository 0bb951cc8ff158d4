"""Devices are saved as a difference and loaded as they were; allowlist and CRL follow by themselves."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from fleet.core import lifecycle
from fleet.errors import StoreError
from fleet.model import (
    Alarm,
    AllowlistEntry,
    Certificate,
    CertificateState,
    ClientKind,
    Code,
    Device,
    Purpose,
    RevocationReason,
    StaleHandshake,
)
from fleet.ports import Store, Transaction
from fleet.store import allowlist, codes, devices, revocations
from fleet.store.certificates import SignedCertificate, abandon_intents
from fleet.store.codes import Grant, GrantKind
from fleet.store.crl_entries import CauseQuery, ShardQuery, entries_in, newest_for_cause
from fleet.store.devices import DeviceRecord
from fleet.store.revocations import Revocation
from fleet.store.sqlite import memory_store

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
ISSUER = "1" * 40
D1 = Identity(domain="prod", device_id="d1")
ANCHOR = "a" * 64


def serial(number: int) -> str:
    return f"40{number:030x}"


def key(number: int) -> str:
    return f"{number:064x}"


def signed(number: int) -> SignedCertificate:
    return SignedCertificate(
        serial=serial(number),
        issuer=ISSUER,
        fingerprint=key(1000 + number),
        not_before=NOW,
        not_after=NOW + timedelta(days=90),
        der=b"der",
    )


def certificate(number: int, state: CertificateState = CertificateState.VOID) -> Certificate:
    return Certificate(serial=serial(number), key_hash=key(number), state=state, anchor=ANCHOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a test does to a device in one unit of work."""

    after: Device
    at: datetime = NOW
    signed: SignedCertificate | None = None
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    grants: tuple[Grant, ...] = ()


async def register(tx: Transaction, identity: Identity) -> None:
    await devices.insert_device(tx, DeviceRecord(identity=identity, registered_at=NOW))


async def change(tx: Transaction, asked: Change) -> int | None:
    before = await devices.load_device(tx, asked.after.identity)
    assert before is not None
    return await devices.save_device(
        tx,
        before,
        after=asked.after,
        at=asked.at,
        issuer=ISSUER,
        signed=asked.signed,
        reason=asked.reason,
        grants=asked.grants,
    )


async def issued(store: Store, number: int = 1, state: CertificateState = CertificateState.ACTIVE) -> Device:
    """Enroll d1: an intent, then its result."""
    known = await store.read(devices.load_device, D1)
    if known is None:
        await store.write(register, D1)
        known = Device(identity=D1)
    intended = replace(known, certificates=(*known.certificates, certificate(number)))
    await store.write(change, Change(after=intended))
    rest = known.certificates
    done = replace(intended, certificates=(*rest, certificate(number, state)), current=serial(number))
    await store.write(change, Change(after=done, signed=signed(number)))
    return done


def entry(number: int) -> AllowlistEntry:
    return AllowlistEntry(
        issuer=ISSUER,
        serial=serial(number),
        fingerprint=key(1000 + number),
        name="prod:d1",
        purpose=Purpose.DEVICE,
        not_after=NOW + timedelta(days=90),
    )


certificates = st.builds(
    Certificate,
    serial=st.integers(1, 9).map(serial),
    key_hash=st.integers(1, 9).map(key),
    state=st.sampled_from(CertificateState),
    attempt=st.integers(0, 5),
    anchor=st.just(ANCHOR),
    code_id=st.none() | st.just("c1"),
    parent=st.none() | st.integers(1, 9).map(serial),
    done_stamp=st.none() | st.integers(0, 2**40),
    issued_stamp=st.none() | st.integers(0, 2**40),
)
open_codes = st.lists(
    st.builds(Code, code_id=st.sampled_from("abcdef"), key_hash=st.none() | st.integers(1, 9).map(key)),
    max_size=4,
    unique_by=lambda code: code.code_id,
).map(lambda found: tuple(sorted(found, key=lambda code: code.code_id)))
some_devices = st.builds(
    Device,
    identity=st.just(D1),
    kind=st.sampled_from(ClientKind),
    certificates=st.lists(certificates, max_size=6, unique_by=lambda each: each.serial).map(
        lambda found: tuple(sorted(found, key=lambda each: each.serial))
    ),
    current=st.none() | st.integers(1, 9).map(serial),
    codes=open_codes,
    revoked=st.booleans(),
    suspended=st.booleans(),
    alarm=st.sampled_from(Alarm),
    code_conflict=st.booleans(),
    base=st.none() | st.integers(1, 9).map(serial),
    readmit=st.booleans(),
    stale=st.none()
    | st.builds(StaleHandshake, serial=st.integers(1, 9).map(serial), stamp=st.integers(0, 99)),
)
ALL_GRANTS = tuple(Grant(code_id=code_id, kind=GrantKind.CODE) for code_id in "abcdef")


@settings(max_examples=30)
@given(some_devices)
async def test_a_device_is_loaded_as_it_was_saved(device: Device) -> None:
    async with memory_store() as store:
        await store.write(register, D1)
        await store.write(change, Change(after=device, grants=ALL_GRANTS))
        assert await store.read(devices.load_device, D1) == device


@settings(max_examples=30)
@given(some_devices, some_devices)
async def test_a_device_becomes_what_it_is_changed_into(one: Device, other: Device) -> None:
    kept = {each.serial: each for each in one.certificates} | {
        each.serial: each for each in other.certificates
    }
    later = tuple(code for code in other.codes if code in one.codes)
    target = replace(other, certificates=tuple(kept[name] for name in sorted(kept)), codes=later)
    async with memory_store() as store:
        await store.write(register, D1)
        await store.write(change, Change(after=one, grants=ALL_GRANTS))
        await store.write(change, Change(after=target, at=LATER))
        assert await store.read(devices.load_device, D1) == target


async def test_a_device_that_nobody_registered_is_none() -> None:
    async with memory_store() as store:
        assert await store.read(devices.load_device, D1) is None


async def test_an_intent_is_on_record_and_not_on_the_allowlist() -> None:
    async with memory_store() as store:
        await store.write(register, D1)
        intended = Device(identity=D1, certificates=(certificate(1),))
        assert await store.write(change, Change(after=intended)) is None
        assert (await store.read(allowlist.snapshot, None)).entries == ()


async def test_what_was_signed_and_issued_is_on_the_allowlist() -> None:
    async with memory_store() as store:
        await issued(store)
        listed = await store.read(allowlist.snapshot, None)
        assert (listed.sequence, listed.entries) == (1, (entry(1),))


TROUBLES = {
    "suspended": replace(Device(identity=D1), suspended=True),
    "clone": replace(Device(identity=D1), alarm=Alarm.CLONE),
    "revoked": replace(Device(identity=D1), revoked=True),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_device_in_trouble_leaves_the_allowlist_and_comes_back(trouble: str) -> None:
    async with memory_store() as store:
        device = await issued(store)
        flagged = replace(TROUBLES[trouble], certificates=device.certificates, current=device.current)
        assert await store.write(change, Change(after=flagged)) == 2
        assert (await store.read(allowlist.snapshot, None)).entries == ()
        assert await store.write(change, Change(after=device)) == 3
        (out, back) = await store.read(allowlist.changes_after, 1)
        assert (out.sequence, out.added, out.removed) == (2, (), (entry(1),))
        assert (back.sequence, back.added, back.removed) == (3, (entry(1),), ())


async def test_a_renewal_adds_the_new_and_removes_the_old_in_one_change() -> None:
    async with memory_store() as store:
        await issued(store, 1)
        device = await issued(store, 2, CertificateState.ISSUED)
        old, new = device.certificates
        confirmed = (
            replace(old, state=CertificateState.SUPERSEDED),
            replace(new, state=CertificateState.ACTIVE),
        )
        sequence = await store.write(change, Change(after=replace(device, certificates=confirmed)))
        assert sequence == 3
        listed = await store.read(allowlist.snapshot, None)
        assert listed.entries == (entry(2),)


async def test_the_allowlist_is_what_the_core_admits_in_every_state_and_trouble() -> None:
    """A revoked device has no certificate that the core would admit; the view does not rely on that."""
    every_state = tuple(certificate(number, state) for number, state in enumerate(CertificateState, start=1))
    async with memory_store() as store:
        await store.write(register, D1)
        await store.write(change, Change(after=Device(identity=D1, certificates=every_state)))
        for number in range(1, len(every_state) + 1):
            now = await store.read(devices.load_device, D1)
            assert now is not None
            await store.write(change, Change(after=now, signed=signed(number)))
        for suspended, alarm, revoked, conflict in product((0, 1), Alarm, (0, 1), (0, 1)):
            device = Device(
                identity=D1,
                certificates=every_state,
                suspended=bool(suspended),
                alarm=alarm,
                revoked=bool(revoked),
                code_conflict=bool(conflict),
            )
            await store.write(change, Change(after=device))
            listed = {each.serial for each in (await store.read(allowlist.snapshot, None)).entries}
            assert listed == (frozenset() if revoked else lifecycle.admitted(device))


async def test_sequence_numbers_have_no_gaps_and_changes_lead_from_any_list_to_the_present_one() -> None:
    async with memory_store() as store:
        device = await issued(store)
        seen = [await store.read(allowlist.snapshot, None)]
        for suspended in (True, False, True, False):
            await store.write(change, Change(after=replace(device, suspended=suspended)))
            seen.append(await store.read(allowlist.snapshot, None))
        changes = await store.read(allowlist.changes_after, 0)
        present = set(seen[-1].entries)
    assert [each.sequence for each in changes] == list(range(1, 6))
    for start in seen:
        followed = set(start.entries)
        for each in changes[start.sequence :]:
            followed = (followed | set(each.added)) - set(each.removed)
        assert followed == present


async def revocation(store: Store, number: int) -> Revocation | None:
    return await store.read(revocations.revocation_of, serial(number))


@pytest.mark.parametrize(
    ("state", "reason", "for_cause"),
    [
        (CertificateState.REVOKED, RevocationReason.KEY_COMPROMISE, True),
        (CertificateState.SUPERSEDED, RevocationReason.SUPERSEDED, False),
        (CertificateState.SUPERSEDED_ACKED, RevocationReason.SUPERSEDED, False),
        (CertificateState.DEAD, RevocationReason.CESSATION_OF_OPERATION, False),
    ],
)
async def test_a_certificate_that_ended_is_on_the_revocation_list(
    state: CertificateState, reason: RevocationReason, for_cause: bool
) -> None:
    async with memory_store() as store:
        device = await issued(store)
        ended = replace(device, certificates=(certificate(1, state),))
        await store.write(change, Change(after=ended, at=LATER, reason=RevocationReason.KEY_COMPROMISE))
        found = await revocation(store, 1)
    assert found is not None
    assert (found.reason, found.for_cause, found.revoked_at) == (reason, for_cause, LATER)


@pytest.mark.parametrize(
    "state", [CertificateState.EXPIRED_GRACE, CertificateState.EXPIRED_FINAL, CertificateState.EXPIRED_UNUSED]
)
async def test_a_certificate_that_expired_is_not_revoked(state: CertificateState) -> None:
    async with memory_store() as store:
        device = await issued(store)
        await store.write(change, Change(after=replace(device, certificates=(certificate(1, state),))))
        assert await revocation(store, 1) is None


async def test_a_graver_end_keeps_its_first_date() -> None:
    async with memory_store() as store:
        device = await issued(store)
        over = replace(device, certificates=(certificate(1, CertificateState.SUPERSEDED),))
        await store.write(change, Change(after=over, at=NOW))
        revoked = replace(device, certificates=(certificate(1, CertificateState.REVOKED),))
        stolen = RevocationReason.KEY_COMPROMISE
        await store.write(change, Change(after=revoked, at=LATER, reason=stolen))
        found = await revocation(store, 1)
    assert found is not None
    assert (found.revoked_at, found.reason, found.for_cause) == (NOW, stolen, True)


async def test_the_list_for_a_broker_holds_what_was_revoked_for_cause_only() -> None:
    async with memory_store() as store:
        await issued(store, 1)
        device = await issued(store, 2)
        states = (CertificateState.SUPERSEDED, CertificateState.REVOKED)
        ended = tuple(
            replace(each, state=state) for each, state in zip(device.certificates, states, strict=True)
        )
        await store.write(change, Change(after=replace(device, certificates=ended)))
        query = ShardQuery(issuer=ISSUER, first="0000", last="ffff", ends_from=NOW)
        cause = CauseQuery(issuer=ISSUER, now=NOW, limit=10)
        public = await store.read(entries_in, query)
        broker = await store.read(newest_for_cause, cause)
        past = await store.read(entries_in, replace(query, ends_from=NOW + timedelta(days=91)))
    assert (public.count, len(broker), past.count) == (2, 1, 0)
    assert bytes.fromhex(serial(2)) in broker[0]


async def test_an_intent_that_nobody_signs_any_more_goes_on_the_list_once() -> None:
    async with memory_store() as store:
        await store.write(register, D1)
        await store.write(change, Change(after=Device(identity=D1, certificates=(certificate(1),))))
        assert await store.write(abandon_intents, NOW) == 1
        assert await store.write(abandon_intents, LATER) == 0
        found = await revocation(store, 1)
        device = await store.read(devices.load_device, D1)
    assert found is not None
    assert not found.for_cause
    assert device is not None
    assert device.certificates == (certificate(1),)


async def test_a_suspension_that_ends_is_dated() -> None:
    async with memory_store() as store:
        device = await issued(store)
        await store.write(change, Change(after=replace(device, suspended=True)))
        await store.write(change, Change(after=device, at=LATER))
        record = await store.read(devices.load_record, D1)
    assert record is not None
    assert record.resumed_at == LATER


async def test_a_code_that_was_closed_is_open_no_more_and_stays_on_record() -> None:
    async with memory_store() as store:
        await store.write(register, D1)
        given_out = Device(identity=D1, codes=(Code(code_id="a"),))
        await store.write(change, Change(after=given_out, grants=ALL_GRANTS))
        await store.write(change, Change(after=Device(identity=D1), at=LATER))
        found = await store.read(codes.load_code, "a")
        device = await store.read(devices.load_device, D1)
    assert found is not None
    assert found.closed_at == LATER
    assert device == Device(identity=D1)


async def test_a_code_without_a_grant_is_refused() -> None:
    async with memory_store() as store:
        await store.write(register, D1)
        with pytest.raises(StoreError, match="has no grant"):
            await store.write(change, Change(after=Device(identity=D1, codes=(Code(code_id="a"),))))


async def test_a_certificate_never_goes_away() -> None:
    async with memory_store() as store:
        await issued(store)
        with pytest.raises(StoreError, match="went away"):
            await store.write(change, Change(after=Device(identity=D1)))


def test_the_reasons_of_revocation_are_those_of_x509() -> None:
    assert {x509.ReasonFlags(reason.value) for reason in RevocationReason} < set(x509.ReasonFlags)
