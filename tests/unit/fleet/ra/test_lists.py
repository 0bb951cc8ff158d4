"""Revocation lists as they are handed out: whole, in their time, in parts, and with what changed since."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from device_agent.wire.identity import Identity
from device_agent.wire.replies import Issued
from fleet.ca.signers import KeySigner, make_key
from fleet.core.goodkey import KeyType
from fleet.core.partition import PARTITIONS, partition_of
from fleet.core.revocation import encode_entry
from fleet.errors import FleetError, NotFoundError, UnreachableError
from fleet.model import CertificateState, Purpose, RevocationReason
from fleet.ports import Transaction
from fleet.ra.allowlist import BrokerLink
from fleet.ra.authority.initialise import Plan
from fleet.ra.crls import ListName, list_of, parse_list_name
from fleet.ra.devices import resume, suspend
from fleet.ra.status.broker_lists import MOST_ENTRIES, give_to_brokers, make_for_brokers
from fleet.ra.status.press import press_of
from fleet.ra.status.public_lists import current_list, make_public
from fleet.ra.status.publishing import keep_published, publish, refresh_lists
from fleet.store import revocations
from fleet.store.status_urls import StatusUrl, note_status_url
from tests.desk import NOON, Desk, MemoryBroker
from tests.homes import FleetHome, make_home
from tests.status import RelyingParty, entries_of

D1 = Identity(domain="prod", device_id="d1")
ACTOR = "operator:ada"
LIFETIME = timedelta(hours=24)


@pytest.fixture
def party(desk: Desk) -> RelyingParty:
    return RelyingParty(desk=desk, issuer=desk.context.authority.issuer(Purpose.DEVICE, "prod"))


@pytest.fixture(scope="module")
def post_quantum(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    plan = Plan(fleet="acme", domains=("prod", "pq"), ca_keys={"pq": KeyType.ML_DSA_44})
    return make_home(tmp_path_factory.mktemp("pq") / "home", plan=plan)


async def enrolled(desk: Desk, device_id: str = "d1") -> Issued:
    return (await desk.enrolled(device_id))[1]


def point_of(crl: bytes) -> x509.IssuingDistributionPoint:
    extension = x509.load_der_x509_crl(crl).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert extension.critical
    return extension.value


def named(point: x509.IssuingDistributionPoint) -> list[str]:
    return [str(name.value) for name in point.full_name or ()]


# --- complete ----------------------------------------------------------------------------------------


async def test_a_complete_list_is_of_all_leaves_and_says_where_its_delta_is(party: RelyingParty) -> None:
    crl = await party.fetch(party.complete)
    point = point_of(crl.der)
    (freshest,) = x509.load_der_x509_crl(crl.der).extensions.get_extension_for_class(x509.FreshestCRL).value
    assert point.only_contains_user_certs
    assert point.full_name is None, "it speaks of every leaf, whichever part that names"
    assert [name.value for name in freshest.full_name or ()] == [
        f"http://fleet.example.org:8080/crl/{party.issuer.issuer_id}-delta.crl"
    ]
    assert crl.next_update == NOON + LIFETIME
    assert crl.this_update == NOON - timedelta(minutes=1), "for verifiers whose clocks are a little slow"


async def test_a_list_is_made_again_when_something_happened_and_not_before(
    desk: Desk, party: RelyingParty
) -> None:
    await enrolled(desk)
    first, again = await party.fetch(party.complete), await party.fetch(party.complete)
    await desk.revoke("d1")
    after = await party.fetch(party.complete)
    assert first is again
    assert after.number > first.number
    assert len(entries_of(after.der)) == 1


@pytest.mark.parametrize(
    ("jump", "is_made"),
    [
        (LIFETIME / 2 - timedelta(seconds=1), False),
        (LIFETIME / 2, True),
        (timedelta(days=400), True),
        (-timedelta(minutes=1), False),
        (-timedelta(minutes=1, seconds=1), True),
    ],
    ids=["before its half", "at its half", "after a long stop", "set back a little", "set back far"],
)
async def test_a_list_is_made_again_at_half_of_its_life_and_after_a_jump_of_the_clock(
    desk: Desk, party: RelyingParty, jump: timedelta, is_made: bool
) -> None:
    names = (party.complete, party.complete.delta, list_of(party.issuer.issuer_id, "41" * 16))
    before = [await party.fetch(name) for name in names]
    desk.clock.forward(jump)
    after = [await party.fetch(name) for name in names]
    for old, new in zip(before, after, strict=True):
        assert (new.number > old.number) is is_made
        assert new.this_update <= desk.clock() < new.next_update


async def test_numbers_grow_even_where_the_records_were_restored_from_a_backup(
    desk: Desk, party: RelyingParty
) -> None:
    before = await party.fetch(party.complete)
    await desk.context.store.write(_restored, None)
    desk.context.crls.note_change()
    desk.clock.forward(timedelta(seconds=1))
    assert (await party.fetch(party.complete)).number > before.number


async def _restored(tx: Transaction, _argument: None) -> None:
    await tx.execute("DELETE FROM counters WHERE name LIKE 'crl:%'")
    await tx.execute("DELETE FROM crl_turns")


async def test_numbers_grow_even_where_the_clock_stands_still(desk: Desk, party: RelyingParty) -> None:
    numbers = []
    for _ in range(3):
        desk.context.crls.note_change()
        numbers.append((await party.fetch(party.complete)).number)
    assert numbers == sorted(set(numbers))


async def test_every_active_ca_gets_its_list_at_once(desk: Desk) -> None:
    context = desk.context
    made = await make_public(press_of(context), context.crls, now=desk.clock())
    assert {crl.name.issuer for crl in made} == {one.issuer_id for one in context.authority.listed}
    assert set(made) == set(context.crls.all())


async def test_nobody_is_handed_the_list_of_a_ca_that_is_not_ours(party: RelyingParty) -> None:
    with pytest.raises(NotFoundError):
        await party.fetch(ListName(issuer="ab" * 20))


async def test_a_key_that_fails_leaves_the_last_list_in_force_as_long_as_it_is_valid(
    desk: Desk, party: RelyingParty
) -> None:
    context, before = desk.context, await party.fetch(party.complete)
    broken = replace(party.issuer, signer=KeySigner(make_key()))
    press = replace(press_of(context), authority=replace(context.authority, issuers=(broken,)))
    context.crls.note_change()

    kept = await current_list(press, context.crls, party.complete, now=NOON + LIFETIME * 0.9)
    with pytest.raises(FleetError, match="does not verify"):
        await current_list(press, context.crls, party.complete, now=NOON + LIFETIME)

    assert kept is before


async def test_what_nobody_noted_is_found_when_the_lists_are_looked_after(
    desk: Desk, party: RelyingParty
) -> None:
    issued = await enrolled(desk)
    await refresh_lists(desk.context)
    part = list_of(party.issuer.issuer_id, issued.serial)
    before = await party.listed(part)
    ending = revocations.Ending(
        issuer=party.issuer.issuer_id,
        serial=issued.serial,
        state=CertificateState.REVOKED,
        reason=RevocationReason.KEY_COMPROMISE,
        not_after=NOON + LIFETIME,
        at=NOON,
    )
    await desk.context.store.write(revocations.record, ending)
    await refresh_lists(desk.context)

    assert (before, await party.listed(part)) == ({}, {issued.serial: "keyCompromise"})
    assert any(bytes.fromhex(issued.serial) in crl for crl in desk.broker.crls)


async def test_what_was_noted_is_not_noted_again_when_the_lists_are_looked_after(desk: Desk) -> None:
    await enrolled(desk)
    await desk.revoke("d1")
    await refresh_lists(desk.context)
    change = desk.context.crls.change
    await refresh_lists(desk.context)
    assert desk.context.crls.change == change


# --- parts -------------------------------------------------------------------------------------------


async def test_a_leaf_finds_itself_in_the_part_that_it_names(desk: Desk, party: RelyingParty) -> None:
    issued = await enrolled(desk)
    await enrolled(desk, "d2")
    await desk.revoke("d1")
    await desk.revoke("d2")

    leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
    (point,) = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = list(point.full_name or ())
    part = parse_list_name(str(name.value).rpartition("/")[2].removesuffix(".crl"))
    assert part is not None
    crl = await party.fetch(part)

    assert name.value in named(point_of(crl.der)), "RFC 5280 6.3.3: the list has to go by the leaf's name"
    assert point_of(crl.der).only_contains_user_certs
    assert issued.serial in entries_of(crl.der)
    assert all(partition_of(serial) == part.partition for serial in entries_of(crl.der))


async def test_the_parts_together_are_the_complete_list(desk: Desk, party: RelyingParty) -> None:
    await desk.context.store.write(_many, (party.issuer.issuer_id, 1000, True))
    desk.context.crls.note_change()
    parts = [
        await party.listed(ListName(issuer=party.issuer.issuer_id, part=str(number)))
        for number in range(PARTITIONS, PARTITIONS + 8)
    ]
    complete = await party.listed(party.complete)
    expected = {serial for serial in complete if partition_of(serial) < PARTITIONS + 8}
    assert len(complete) == 1000
    assert {serial for part in parts for serial in part} == expected


async def test_a_part_is_not_made_again_because_of_what_happened_in_another(
    desk: Desk, party: RelyingParty
) -> None:
    issuer = party.issuer.issuer_id
    mine, other = "41" * 14 + "0000", "41" * 14 + "ffff"
    before = [await party.fetch(list_of(issuer, serial)) for serial in (mine, other)]
    desk.context.crls.note_superseded([mine])
    after = [await party.fetch(list_of(issuer, serial)) for serial in (mine, other)]
    assert [old is new for old, new in zip(before, after, strict=True)] == [False, True]


async def test_after_a_move_a_part_goes_by_its_earlier_addresses_too(desk: Desk, party: RelyingParty) -> None:
    old = StatusUrl(url="http://old.example.org", at=NOON - timedelta(days=1))
    await desk.context.store.write(note_status_url, old)
    name = list_of(party.issuer.issuer_id, "41" * 16)
    assert named(point_of((await party.fetch(name)).der)) == [
        f"http://fleet.example.org:8080{name.path}",
        f"http://old.example.org{name.path}",
    ]


@pytest.mark.parametrize(
    "text", ["", "AB" * 20, "ab-", "ab-0", "ab-127", "ab-256", "ab-1", "ab-0128", "ab-delta-128", "ab/../cd"]
)
def test_a_list_that_no_leaf_can_name_is_no_list(text: str) -> None:
    assert parse_list_name(text) is None


@pytest.mark.parametrize("text", ["ab", "ab-delta", "ab-128", "ab-255"])
def test_a_list_is_where_its_name_says(text: str) -> None:
    name = parse_list_name(text)
    assert name is not None
    assert name.path == f"/crl/{text}.crl"


# --- deltas ------------------------------------------------------------------------------------------


async def test_a_delta_tells_what_changed_since_its_base(desk: Desk, party: RelyingParty) -> None:
    first, second = await enrolled(desk), await enrolled(desk, "d2")
    await desk.revoke("d1")
    base = await party.fetch(party.complete)
    desk.clock.forward(LIFETIME / 2)
    await party.fetch(party.complete)  # the next in its turn: the delta starts from the one before
    await desk.revoke("d2")

    complete, delta = await party.fetch(party.complete), await party.fetch(party.complete.delta)
    read = x509.load_der_x509_crl(delta.der)
    indicator = read.extensions.get_extension_for_class(x509.DeltaCRLIndicator)

    assert (indicator.value.crl_number, indicator.critical) == (base.number, True)
    assert delta.number == complete.number, "RFC 5280 5.2.4"
    assert entries_of(delta.der) == {second.serial: "keyCompromise"}
    assert entries_of(complete.der).keys() == {first.serial, second.serial}
    assert point_of(delta.der) == point_of(complete.der), "RFC 5280 5.2.4: the scope is the base's"


async def test_a_released_hold_is_taken_off_by_the_delta(desk: Desk, party: RelyingParty) -> None:
    issued = await enrolled(desk)
    await party.fetch(party.complete)
    await suspend(desk.context, D1, actor=ACTOR)
    on_hold = await party.listed(party.complete.delta)
    await resume(desk.context, D1, actor=ACTOR)
    released = await party.listed(party.complete.delta)
    await suspend(desk.context, D1, actor=ACTOR)
    again = await party.listed(party.complete.delta)

    assert on_hold == {issued.serial: "certificateHold"}
    assert released == {issued.serial: "removeFromCRL"}
    assert again == {issued.serial: "certificateHold"}


async def test_base_and_delta_together_say_what_the_newest_complete_list_says(
    desk: Desk, party: RelyingParty
) -> None:
    for number in range(1, 6):
        await enrolled(desk, f"d{number}")
    await suspend(desk.context, Identity(domain="prod", device_id="d1"), actor=ACTOR)
    await suspend(desk.context, Identity(domain="prod", device_id="d2"), actor=ACTOR)
    base = await party.listed(party.complete)
    desk.clock.forward(LIFETIME / 2)
    await resume(desk.context, Identity(domain="prod", device_id="d1"), actor=ACTOR)
    await suspend(desk.context, Identity(domain="prod", device_id="d3"), actor=ACTOR)
    await desk.revoke("d2")
    await desk.revoke("d4")

    delta = await party.listed(party.complete.delta)
    merged = {serial: reason for serial, reason in (base | delta).items() if reason != "removeFromCRL"}

    assert merged == await party.listed(party.complete)
    assert len(merged) == 3


# --- brokers -----------------------------------------------------------------------------------------


async def test_brokers_get_what_they_miss_and_nothing_where_they_miss_nothing(desk: Desk) -> None:
    await give_to_brokers(desk.context)
    first = desk.broker.crls
    await give_to_brokers(desk.context)
    same = desk.broker.crls
    desk.context.crls.note_change()
    await give_to_brokers(desk.context)
    assert first is same
    assert desk.broker.crls is not same


@pytest.mark.parametrize("jump", [LIFETIME / 2, timedelta(days=30), -timedelta(hours=1)])
async def test_brokers_get_new_lists_at_half_of_their_life_and_after_a_jump_of_the_clock(
    desk: Desk, jump: timedelta
) -> None:
    await refresh_lists(desk.context)
    first = desk.broker.crls
    desk.clock.forward(jump)
    await refresh_lists(desk.context)
    assert desk.broker.crls is not first


async def test_brokers_get_what_they_miss_without_being_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.ra.status.publishing._RETRY_SECONDS", 0)
    taken = asyncio.Event()

    class Told(MemoryBroker):
        async def publish_crls(self, crls: Sequence[bytes]) -> None:
            await super().publish_crls(crls)
            taken.set()

    broker = Told()
    context = replace(desk.context, broker=BrokerLink(desk.context.store, (broker,)))
    broker.fails = True
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        keeping = group.create_task(keep_published(context))
        context.crls.note_change()
        await asyncio.sleep(0)
        broker.fails = False
        await taken.wait()
        keeping.cancel()
    assert not context.crls.brokers_miss_something


async def test_brokers_are_not_bothered_with_a_suspension(desk: Desk) -> None:
    await enrolled(desk)
    await refresh_lists(desk.context)
    before = desk.broker.crls
    await suspend(desk.context, D1, actor=ACTOR)
    await resume(desk.context, D1, actor=ACTOR)
    await refresh_lists(desk.context)
    assert desk.broker.crls is before


async def test_lists_that_a_cancelled_request_did_not_hand_over_are_still_missing(desk: Desk) -> None:
    class Waiting(MemoryBroker):
        async def publish_crls(self, _crls: Sequence[bytes]) -> None:
            asked.set()
            await asyncio.Event().wait()

    asked = asyncio.Event()
    context = replace(desk.context, broker=BrokerLink(desk.context.store, (Waiting(),)))
    giving = asyncio.ensure_future(give_to_brokers(context))
    await asked.wait()
    giving.cancel()
    await asyncio.wait([giving])
    assert context.crls.brokers_miss_something


async def test_a_broker_that_was_away_gets_its_lists_when_it_is_back(desk: Desk) -> None:
    await publish(desk.context)
    first = desk.broker.crls
    desk.broker.fails = True
    with pytest.raises(UnreachableError):
        await publish(desk.context)
    assert desk.context.crls.brokers_miss_something
    desk.broker.fails = False
    await refresh_lists(desk.context)
    assert desk.broker.crls is not first
    assert not desk.context.crls.brokers_miss_something


async def test_a_list_for_a_broker_is_plain_so_that_every_tls_stack_reads_it(desk: Desk) -> None:
    for encoded in await make_for_brokers(press_of(desk.context), now=desk.clock()):
        extensions = x509.load_der_x509_crl(encoded).extensions
        assert not any(extension.critical for extension in extensions)


async def test_a_broker_is_given_no_list_that_its_tls_cannot_read(
    desk: Desk, post_quantum: FleetHome
) -> None:
    press = replace(press_of(desk.context), authority=post_quantum.authority)
    made = await make_for_brokers(press, now=post_quantum.made_at)
    issuers = {x509.load_der_x509_crl(one).issuer for one in made}
    subjects = {
        domain: post_quantum.authority.issuer(Purpose.DEVICE, domain).certificate.subject
        for domain in ("prod", "pq")
    }
    assert {domain for domain, subject in subjects.items() if subject in issuers} == {"prod"}


async def test_beyond_ten_thousand_entries_a_broker_is_told_the_newest_and_the_canary_stays(
    desk: Desk, party: RelyingParty, fleet_home: FleetHome
) -> None:
    await desk.context.store.write(_many, (party.issuer.issuer_id, MOST_ENTRIES + 50, True))
    made = await make_for_brokers(press_of(desk.context), now=fleet_home.made_at)
    lists = {x509.load_der_x509_crl(one).issuer: entries_of(one) for one in made}
    mine = lists[party.issuer.certificate.subject]
    service = lists[desk.context.authority.issuer(Purpose.SERVICE).certificate.subject]

    assert sum(map(len, lists.values())) == MOST_ENTRIES == 10_000
    assert len(service) == 1, "the canary, which proves that the broker reads its lists"
    assert _serial(MOST_ENTRIES + 49) in mine
    assert _serial(0) not in mine


async def test_what_was_superseded_is_no_cause_for_a_broker(desk: Desk, party: RelyingParty) -> None:
    await desk.context.store.write(_many, (party.issuer.issuer_id, 3, False))
    made = await make_for_brokers(press_of(desk.context), now=desk.clock())
    assert sum(len(entries_of(one)) for one in made) == 0


def _serial(number: int) -> str:
    # The last digits spread as those of real serials do.
    return f"41{number:026x}{number * 40503 % 65536:04x}"


async def _many(tx: Transaction, wanted: tuple[str, int, bool]) -> None:
    """Put entries on record, one second after another, without the certificates."""
    issuer, count, for_cause = wanted
    reason = RevocationReason.KEY_COMPROMISE if for_cause else RevocationReason.SUPERSEDED
    rows: Sequence[tuple[str | int | bytes, ...]] = [
        (
            issuer,
            _serial(number),
            f"2030-05-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
            reason.value,
            int(for_cause),
            "2031-01-01T00:00:00Z",
            encode_entry(_serial(number), NOON, reason),
            _serial(number)[-4:],
        )
        for number in range(count)
    ]
    await tx.execute_many(
        "INSERT INTO revocations (issuer, serial, revoked_at, reason, for_cause, not_after, entry, shard)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
