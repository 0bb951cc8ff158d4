"""Profiles at work: what our records choose decides what a certificate holds, or that there is none."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_agent.core.acceptance import Expected, accept, offer_of
from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Issued, Pending, Problem, Reply
from device_agent.wire.requests import Confirm, Renew
from fleet.config import parse
from fleet.core.ruling import Outcome
from fleet.model import Assurance, ClientKind
from fleet.ports import Transaction
from fleet.ra.context import Asker, Listener
from fleet.ra.devices import show
from fleet.ra.keeping.housekeeping import tick
from fleet.ra.requests.answer import answer
from fleet.ra.requests.approvals import Choice, approve
from fleet.ra.requests.dry_run import try_on
from fleet.ra.shown import shown_certificate
from fleet.store.attributes import put_attributes
from fleet.store.claims import Batch, insert_batch
from fleet.store.devices import DeviceRecord, insert_device, load_record, set_profile
from fleet.store.requests import RequestQuery, RequestRecord, drop_requests, list_requests, surplus
from tests.desk import NOON, Desk, Unit, at_desk
from tests.homes import FleetHome

TOML = """
[fleet]
name = "acme"
[domains.prod]
[domains.prod.profiles.gateway]
lifetime_days = 7
usages = ["clientAuth", "serverAuth"]
names = ["{id}.{hardware}.example.org"]
by_label = true
[domains.prod.profiles.large]
key_types = ["p384"]
[domains.prod.profiles.watched]
approval = true
[domains.prod.profiles.vouched]
assurance = "manufacturer"
"""
D1 = Identity(domain="prod", device_id="d1")


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path, toml=TOML) as opened:
        yield opened


async def choose(tx: Transaction, profile: str) -> None:
    await set_profile(tx, D1, profile)


async def enlist(desk: Desk, *, profile: str = "", hardware: str = "", batch: str | None = None) -> Unit:
    record = DeviceRecord(
        identity=D1,
        registered_at=NOON,
        profile=profile,
        hardware=hardware,
        batch=batch,
        kind=ClientKind.PLAIN,
    )
    await desk.context.store.write(insert_device, record)
    return Unit(device_id="d1")


async def enroll(desk: Desk, unit: Unit, asker: Asker | None = None) -> Reply:
    request = unit.enroll(await desk.code_for(D1))
    return await answer(desk.context, asker or unit.at_bootstrap(), request)


def leaf_of(reply: Reply) -> x509.Certificate:
    assert isinstance(reply, Issued), reply
    return x509.load_pem_x509_certificate(reply.certificate.encode())


def refused(reply: Reply) -> ProblemCode:
    assert isinstance(reply, Problem), reply
    return reply.code


async def requests_of(desk: Desk) -> list[RequestRecord]:
    return [record for _, record in await desk.context.store.read(list_requests, RequestQuery())]


async def test_the_profile_of_the_device_decides_what_its_certificate_holds(desk: Desk) -> None:
    unit = await enlist(desk, profile="gateway", hardware="gw3")
    reply = await enroll(desk, unit)
    leaf = leaf_of(reply)

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.get_values_for_type(x509.DNSName) == ["d1.prod.acme", "d1.gw3.example.org"]
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    assert leaf.not_valid_after_utc == NOON + timedelta(days=7)
    (certificate,) = (await show(desk.context, D1)).certificates
    assert certificate.signed is not None
    assert certificate.signed.profile == "gateway"
    assert isinstance(reply, Issued)
    spki = unit.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    accepted = accept(offer_of(reply), Expected(public_key_der=spki, device_id="d1"), now=NOON)
    assert accepted.identity == D1


async def test_a_batch_chooses_for_its_devices(desk: Desk) -> None:
    await desk.context.store.write(
        insert_batch, Batch(domain="prod", name="line3", created_at=NOON, profile="large")
    )
    unit = await enlist(desk, batch="line3")

    assert refused(await enroll(desk, unit)) is ProblemCode.BAD_KEY
    unit.key = ec.generate_private_key(ec.SECP384R1())
    assert leaf_of(await enroll(desk, unit)).public_key() == unit.key.public_key()


async def test_what_the_profile_refuses_leaves_the_code_as_it_was(desk: Desk) -> None:
    unit = await enlist(desk, profile="large")
    request = unit.enroll(await desk.code_for(D1))

    assert refused(await answer(desk.context, unit.at_bootstrap(), request)) is ProblemCode.BAD_KEY
    await desk.context.store.write(choose, "")
    assert isinstance(await answer(desk.context, unit.at_bootstrap(), request), Issued)


async def test_a_label_that_may_choose_is_remembered_for_the_next_certificate(desk: Desk) -> None:
    unit = await enlist(desk, hardware="gw3")
    labelled = Asker(listener=Listener.HTTPS, domain="prod", profile="gateway", kind=ClientKind.PLAIN)

    leaf_of(await enroll(desk, unit, labelled))
    record = await desk.context.store.read(load_record, D1)
    assert record is not None
    assert record.profile == "gateway"


async def test_a_label_that_may_not_choose_is_refused(desk: Desk) -> None:
    labelled = Asker(listener=Listener.HTTPS, domain="prod", profile="large", kind=ClientKind.PLAIN)

    assert refused(await enroll(desk, await enlist(desk), labelled)) is ProblemCode.NOT_ALLOWED


async def test_a_profile_that_wants_approval_keeps_even_a_good_code_waiting(desk: Desk) -> None:
    unit = await enlist(desk, profile="watched")
    request = unit.enroll(await desk.code_for(D1))

    waits = await answer(desk.context, unit.at_bootstrap(), request)
    assert isinstance(waits, Pending)
    await approve(desk.context, Choice(identity=D1), actor="operator:ada")
    leaf_of(await answer(desk.context, unit.at_bootstrap(), request))
    record = await desk.context.store.read(load_record, D1)
    assert record is not None
    assert record.assurance is Assurance.APPROVED


async def test_more_assurance_than_was_proved_is_refused_and_for_the_next_certificate_too(desk: Desk) -> None:
    unit = await enlist(desk, profile="vouched")
    assert refused(await enroll(desk, unit)) is ProblemCode.NOT_ALLOWED

    await desk.context.store.write(choose, "")
    first = await enroll(desk, unit)
    assert isinstance(first, Issued)
    await desk.context.store.write(choose, "vouched")
    follower = Unit(device_id="d1")
    renewal = Renew(id="r1", csr=follower.csr, attempt=1)
    assert refused(await answer(desk.context, desk.speaking(first), renewal)) is ProblemCode.NOT_ALLOWED


async def test_what_was_asked_is_on_record_with_what_became_of_it(desk: Desk) -> None:
    unit = await enlist(desk, profile="large")
    await enroll(desk, unit)
    await desk.context.store.write(choose, "")
    await enroll(desk, unit)

    granted, no = await requests_of(desk)
    assert (granted.outcome, no.outcome) == (Outcome.GRANTED, Outcome.REFUSED)
    assert no.code == ProblemCode.BAD_KEY
    assert granted.facts is not None
    assert granted.facts.assurance is Assurance.CODE


async def test_only_the_newest_requests_of_each_outcome_are_kept(desk: Desk) -> None:
    unit = await enlist(desk, profile="large")
    for _ in range(3):
        await enroll(desk, unit)
    await desk.context.store.write(choose, "")
    await enroll(desk, unit)

    too_many = await desk.context.store.read(surplus, 1)
    await desk.context.store.write(drop_requests, too_many)
    assert [record.outcome for record in await requests_of(desk)] == [Outcome.GRANTED, Outcome.REFUSED]


async def test_grace_decides_over_new_requests_and_never_over_repeated_ones(desk: Desk) -> None:
    unit = Unit(device_id="d1")
    first = await answer(
        desk.context, unit.at_bootstrap(), unit.enroll(await desk.code_for(await desk.register("d1")))
    )
    assert isinstance(first, Issued)
    await answer(desk.context, desk.speaking(first), Confirm(id="c1"))
    shown = shown_certificate(leaf_of(first).public_bytes(Encoding.DER))
    late = Asker(listener=Listener.RECOVERY, certificate=shown)
    renewal = Renew(id="r1", csr=Unit(device_id="d1").csr, attempt=1)

    desk.clock.forward(timedelta(days=95))
    await tick(desk.context)
    second = await answer(desk.context, late, renewal)
    assert isinstance(second, Issued)
    strict = parse(TOML + "[policy]\ngrace_days = 3\n")
    (difference,) = (await try_on(desk.context, strict)).differences
    assert difference.why == "the certificate ended 5 days ago, and the grace is 3"
    desk.context.in_force.replace(config=strict)
    again = await answer(desk.context, late, renewal)
    other = Renew(id="r2", csr=Unit(device_id="d1").csr, attempt=2)
    assert isinstance(again, Issued)
    assert again.serial == second.serial
    assert refused(await answer(desk.context, late, other)) is ProblemCode.NOT_CURRENT


async def test_names_are_made_of_what_a_webhook_said_and_not_of_the_devices_own_words(desk: Desk) -> None:
    desk.context.in_force.replace(
        config=parse(TOML.replace("{id}.{hardware}.example.org", "{id}.{attribute.site}.example.org"))
    )
    unit = await enlist(desk, profile="gateway")
    assert refused(await enroll(desk, unit)) is ProblemCode.BAD_IDENTITY
    await desk.context.store.write(say, "template")
    assert refused(await enroll(desk, unit)) is ProblemCode.BAD_IDENTITY

    await desk.context.store.write(say, "webhook")
    names = leaf_of(await enroll(desk, unit)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["d1.prod.acme", "d1.hq.example.org"]


async def say(tx: Transaction, source: str) -> None:
    await put_attributes(tx, D1, {"site": "hq", "motto": "No Label"}, source=source)
