"""Certificates handed out before registration are worth nothing until a token, once, puts them in force."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from device_agent.wire.identity import Identity, serial_hex
from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret
from fleet.core.authority import AuthorityState
from fleet.errors import FleetError, NotFoundError, RefusedError
from fleet.model import CertificateState, Purpose
from fleet.ports import Clock, HookReply, Transaction
from fleet.ra import devices
from fleet.ra.devices import Registration as Enlistment
from fleet.ra.gap import open_gap
from fleet.ra.people import claims
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.requests import templates
from fleet.ra.requests.approvals import Choice, approve
from fleet.ra.requests.lapsing import lapse_unregistered
from fleet.ra.requests.provisioning import NewCertificate, create_certificate
from fleet.ra.requests.registering import Registration, Thing, register_thing
from fleet.ra.requests.requester import Requester
from fleet.ra.shown import ShownCertificate, shown_certificate
from fleet.ra.webhook import HookRules, Webhook, signed
from fleet.store import allowlist, audit, provisioning
from fleet.store.audit import AuditQuery
from fleet.store.authorities import load_authority_record, save_authority
from fleet.store.certificates import load_certificate
from fleet.store.claims import load_batch
from fleet.store.codes import CodeQuery
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome
from tests.status import RelyingParty

ADA = "operator:ada"
HOUR = timedelta(hours=1)
TEMPLATE = """
domain = "prod"
batches = ["line3"]
device_id = "{SerialNumber}"
[parameters.SerialNumber]
pattern = "[a-z0-9]{2,8}"
[configuration]
region = "eu-1"
"""
PLAIN_TEMPLATE = 'domain = "prod"'


async def claim_of(
    desk: Desk, *device_ids: str, batch: str = "line3", uses: int = 5, domain: str = "prod"
) -> Requester:
    for device_id in device_ids:
        identity = Identity(domain=domain, device_id=device_id)
        await devices.register(desk.context, Enlistment(identity=identity, batch=batch), actor=ADA)
    order = BatchOrder(domain=domain, name=batch, uses=uses, lifetime=30 * 24 * HOUR, actor=ADA)
    own = (await create_batch(desk.context, order)).own.issued
    return Requester(
        claim=ShownCertificate(issuer=own.issuer_id, serial=own.serial),
        client_id="sdk-1",
        connection="0011223344556677-1",
    )


async def ready(desk: Desk, *device_ids: str) -> Requester:
    await templates.add(desk.context, "line3", text=TEMPLATE, actor=ADA)
    return await claim_of(desk, *device_ids)


async def create(desk: Desk, requester: Requester, unit: Unit) -> NewCertificate:
    return await create_certificate(desk.context, requester, csr_pem=unit.csr)


async def register(
    desk: Desk, requester: Requester, made: NewCertificate, *, template: str = "line3", **parameters: str
) -> Thing:
    asked = Registration(template=template, token=made.token, parameters=parameters)
    return await register_thing(desk.context, requester, asked)


def leaf_of(made: NewCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.certificate_pem.encode())


def serial_of(made: NewCertificate) -> str:
    return serial_hex(leaf_of(made).serial_number)


def named(made: NewCertificate) -> str:
    (name,) = leaf_of(made).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


async def refused(awaited: Awaitable[object]) -> ProblemCode:
    with pytest.raises(RefusedError) as caught:
        await awaited
    return caught.value.code


async def admitted(desk: Desk) -> set[str]:
    return {entry.serial for entry in (await desk.context.store.read(allowlist.snapshot, None)).entries}


async def test_a_registered_thing_has_its_certificate_in_force(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    made = await create(desk, requester, Unit(device_id="d1"))
    before = await admitted(desk)

    thing = await register(desk, requester, made, SerialNumber="d1")

    assert (thing.name, thing.configuration) == ("prod:d1", (("region", "eu-1"),))
    assert serial_of(made) not in before
    assert serial_of(made) in desk.broker.listed
    row = await desk.context.store.read(load_certificate, serial_of(made))
    assert row is not None
    assert (row.state, row.name) == (CertificateState.ACTIVE, "prod:d1")
    batch = await desk.context.store.read(lambda tx, _: load_batch(tx, "prod", "line3"), None)
    assert batch is not None
    assert batch.uses == 1


async def test_the_chain_comes_with_the_leaf_so_that_tls_can_show_it(desk: Desk) -> None:
    requester = await ready(desk, "d1")

    made = await create(desk, requester, Unit(device_id="d1"))

    found = x509.load_pem_x509_certificates(made.certificate_pem.encode())
    assert len(found) == 2
    assert found[0].issuer == found[1].subject


async def test_a_token_registers_once_however_often_it_is_tried_at_once(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    made = await create(desk, requester, Unit(device_id="d1"))

    found = await asyncio.gather(
        *(register(desk, requester, made, SerialNumber="d1") for _ in range(5)), return_exceptions=True
    )

    assert sum(isinstance(one, Thing) for one in found) == 1
    assert {one.code for one in found if isinstance(one, RefusedError)} == {ProblemCode.CODE_INVALID}


async def test_the_same_key_gets_the_same_certificate_and_the_newest_token_alone_counts(desk: Desk) -> None:
    requester, unit = await ready(desk, "d1"), Unit(device_id="d1")
    first = await create(desk, requester, unit)
    second = await create(desk, requester, unit)

    assert first.certificate_pem == second.certificate_pem
    code = await refused(register(desk, requester, first, SerialNumber="d1"))
    assert code is ProblemCode.CODE_INVALID
    await register(desk, requester, second, SerialNumber="d1")


async def test_a_device_that_lost_the_answer_asks_and_registers_again(desk: Desk) -> None:
    requester, unit = await ready(desk, "d1"), Unit(device_id="d1")
    made = await create(desk, requester, unit)
    await register(desk, requester, made, SerialNumber="d1")

    again = await create(desk, requester, unit)
    thing = await register(desk, requester, again, SerialNumber="d1")

    assert (again.certificate_pem, thing.name) == (made.certificate_pem, "prod:d1")
    assert await refused(register(desk, requester, again, SerialNumber="d1")) is ProblemCode.CODE_INVALID
    batch = await desk.context.store.read(lambda tx, _: load_batch(tx, "prod", "line3"), None)
    assert batch is not None
    assert batch.uses == 1


async def test_a_device_that_lost_its_key_before_registering_comes_with_another(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    lost = await create(desk, requester, Unit(device_id="d1"))
    made = await create(desk, requester, Unit(device_id="d1"))

    await register(desk, requester, made, SerialNumber="d1")

    assert await refused(register(desk, requester, lost, SerialNumber="d1")) is ProblemCode.NOT_ALLOWED
    assert serial_of(lost) not in await admitted(desk)


async def test_what_nobody_registers_lapses_with_its_hour_and_the_public_list_names_it(desk: Desk) -> None:
    requester, unit = await ready(desk, "d1"), Unit(device_id="d1")
    made = await create(desk, requester, unit)

    desk.clock.forward(HOUR)
    late = await refused(register(desk, requester, made, SerialNumber="d1"))
    await lapse_unregistered(desk.context)
    gone = await refused(register(desk, requester, made, SerialNumber="d1"))

    assert (late, gone) == (ProblemCode.CODE_INVALID, ProblemCode.CODE_INVALID)
    assert serial_of(made) in await listed(desk)
    row = await desk.context.store.read(provisioning.find_provisioned, serial_of(made))
    assert row is not None
    assert (row.state, row.signed) == (provisioning.ProvisionedState.LAPSED, None)
    fresh = await create(desk, requester, unit)
    await register(desk, requester, fresh, SerialNumber="d1")
    assert serial_of(fresh) != serial_of(made)


async def listed(desk: Desk) -> set[str]:
    async def serials(tx: Transaction, _argument: None) -> set[str]:
        return {str(row[0]) for row in await tx.fetch_all("SELECT serial FROM revocations")}

    return await desk.context.store.read(serials, None)


async def test_relying_parties_are_told_what_it_is_worth(desk: Desk, fleet_home: FleetHome) -> None:
    desk.clock.now = fleet_home.made_at + HOUR
    requester = await ready(desk, "d1", "d2")
    issuer = desk.context.authority.issuer(Purpose.DEVICE, "prod")
    party = RelyingParty(desk=desk, issuer=issuer)
    used = await create(desk, requester, Unit(device_id="d1"))
    unused = await create(desk, requester, Unit(device_id="d2"))

    pending = await party.standing(serial_of(used))
    await register(desk, requester, used, SerialNumber="d1")
    desk.clock.forward(HOUR)
    await lapse_unregistered(desk.context)

    assert pending == "unknown"
    assert await party.standing(serial_of(used)) == "good"
    assert await party.everywhere(serial_of(unused)) == {"cessationOfOperation"}


async def test_one_minute_before_the_hour_it_is_still_in_time(desk: Desk) -> None:
    requester, unit = await ready(desk, "d1"), Unit(device_id="d1")
    made = await create(desk, requester, unit)

    desk.clock.forward(HOUR - timedelta(minutes=1))
    await lapse_unregistered(desk.context)

    assert (await register(desk, requester, made, SerialNumber="d1")).name == "prod:d1"


async def test_a_token_is_worth_nothing_behind_another_claim(desk: Desk) -> None:
    requester, unit = await ready(desk, "d1"), Unit(device_id="d1")
    made = await create(desk, requester, unit)
    other = await claim_of(desk, batch="line4")

    assert await refused(register(desk, other, made, SerialNumber="d1")) is ProblemCode.CODE_INVALID
    assert await refused(create(desk, other, unit)) is ProblemCode.KEY_IN_USE
    await register(desk, requester, made, SerialNumber="d1")


async def test_another_connection_of_the_same_claim_may_register(desk: Desk) -> None:
    """A device that restarts in between has another client id, and still its token."""
    requester = await ready(desk, "d1")
    made = await create(desk, requester, Unit(device_id="d1"))

    again = replace(requester, client_id="sdk-2", connection="0011223344556677-2")

    assert (await register(desk, again, made, SerialNumber="d1")).name == "prod:d1"


async def test_tokens_are_not_in_the_database(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    made = await create(desk, requester, Unit(device_id="d1"))

    async def rows(tx: Transaction, _argument: None) -> str:
        return repr(await tx.fetch_all("SELECT * FROM provisioned"))

    assert made.token.reveal() not in await desk.context.store.read(rows, None)


async def test_a_claim_that_was_closed_neither_creates_nor_registers(desk: Desk) -> None:
    requester = await ready(desk, "d1", "d2")
    made = await create(desk, requester, Unit(device_id="d1"))
    await claims.revoke_batch(desk.context, "prod", "line3", actor=ADA, reason="")

    assert await refused(register(desk, requester, made, SerialNumber="d1")) is ProblemCode.NOT_ALLOWED
    assert await refused(create(desk, requester, Unit(device_id="d2"))) is ProblemCode.NOT_ALLOWED


async def test_the_last_use_of_a_claim_is_had_by_one_device(desk: Desk) -> None:
    await templates.add(desk.context, "line3", text=TEMPLATE, actor=ADA)
    requester = await claim_of(desk, "d1", "d2", uses=1)
    first = await create(desk, requester, Unit(device_id="d1"))
    second = await create(desk, requester, Unit(device_id="d2"))

    await register(desk, requester, first, SerialNumber="d1")

    assert await refused(register(desk, requester, second, SerialNumber="d2")) is ProblemCode.NOT_ALLOWED


async def test_an_id_that_is_enrolled_is_not_handed_out_for_another_key(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    await register(desk, requester, await create(desk, requester, Unit(device_id="d1")), SerialNumber="d1")

    assert await refused(create(desk, requester, Unit(device_id="d1"))) is ProblemCode.NOT_ALLOWED


async def test_of_two_keys_for_one_id_the_first_to_register_wins(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    first = await create(desk, requester, Unit(device_id="d1"))
    second = await create(desk, requester, Unit(device_id="d1"))

    found = await asyncio.gather(
        register(desk, requester, second, SerialNumber="d1"),
        register(desk, requester, first, SerialNumber="d1"),
        return_exceptions=True,
    )

    assert sum(isinstance(one, Thing) for one in found) == 1
    devices_serials = {entry.serial for entry in desk.broker.listed.values() if entry.name == "prod:d1"}
    assert len(devices_serials) == 1


async def test_a_device_nobody_knows_waits_and_is_named_by_its_key_once_approved(desk: Desk) -> None:
    await templates.add(desk.context, "any", text=PLAIN_TEMPLATE, actor=ADA)
    requester, unit = await claim_of(desk), Unit(device_id="AWS IoT Certificate")
    waits = await refused(create(desk, requester, unit))
    identity = Identity(domain="prod", device_id=f"t-{unit.key_hash[:32]}")

    await approve(desk.context, Choice(identity=identity), actor=ADA)
    made = await create(desk, requester, unit)
    thing = await register(desk, requester, made, template="any")

    assert waits is ProblemCode.NOT_ALLOWED
    assert (thing.name, named(made)) == (identity.name, identity.device_id)


async def test_a_leaf_is_never_registered_as_another_thing(desk: Desk) -> None:
    requester = await ready(desk, "d1", "d2")
    made = await create(desk, requester, Unit(device_id="d1"))

    assert await refused(register(desk, requester, made, SerialNumber="d2")) is ProblemCode.BAD_IDENTITY
    assert (await register(desk, requester, made, SerialNumber="d1")).name == "prod:d1"


async def test_a_template_is_for_its_domain_and_batches_alone(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    other = await claim_of(desk, "e1", batch="line4")
    made = await create(desk, other, Unit(device_id="e1"))

    assert await refused(register(desk, other, made, SerialNumber="e1")) is ProblemCode.NOT_ALLOWED
    with pytest.raises(NotFoundError):
        await register(desk, other, made, template="nowhere")
    await register(desk, requester, await create(desk, requester, Unit(device_id="d1")), SerialNumber="d1")


async def test_a_key_that_another_device_holds_is_refused(desk: Desk) -> None:
    unit, _ = await desk.enrolled("e9")
    requester = await ready(desk, "d1")

    code = await refused(create(desk, requester, Unit(device_id="d1", key=unit.key)))

    assert code is ProblemCode.KEY_IN_USE


async def test_a_revoked_device_is_not_registered(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    made = await create(desk, requester, Unit(device_id="d1"))
    await desk.revoke("d1")

    assert await refused(register(desk, requester, made, SerialNumber="d1")) is ProblemCode.REVOKED
    assert serial_of(made) not in await admitted(desk)


async def test_a_public_claim_grants_nothing(desk: Desk) -> None:
    pem = desk.context.home.public_claim("prod").certificate.read_bytes()
    der = x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)
    await desk.register("d1", batch="public")
    requester = Requester(claim=shown_certificate(der), client_id="x", connection="0011223344556677-9")

    with pytest.raises(RefusedError, match="grants nothing without a code"):
        await create(desk, requester, Unit(device_id="d1"))


async def test_a_connection_that_asks_without_end_is_throttled(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    codes = [await refused(create_certificate(desk.context, requester, csr_pem="garbage")) for _ in range(31)]

    assert codes[-1] is ProblemCode.RATE_LIMITED
    assert set(codes[:-1]) == {ProblemCode.BAD_CSR}


async def test_so_many_wait_behind_a_claim_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.ra.requests.provisioning.MAX_PENDING", 1)
    requester = await ready(desk, "d1", "d2")
    await create(desk, requester, Unit(device_id="d1"))

    assert await refused(create(desk, requester, Unit(device_id="d2"))) is ProblemCode.BUSY


async def test_batches_tell_how_many_have_not_registered_yet(desk: Desk) -> None:
    requester = await ready(desk, "d1", "d2")
    first = await create(desk, requester, Unit(device_id="d1"))
    await create(desk, requester, Unit(device_id="d2"))
    await register(desk, requester, first, SerialNumber="d1")

    batches = (await claims.list_claims(desk.context, CodeQuery(domain="prod"))).batches

    assert {batch.name: batch.pending for batch in batches if batch.pending} == {"line3": 1}


async def test_a_crash_between_intent_and_signature_leaves_no_certificate_and_the_device_asks_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    requester, unit = await ready(desk, "d1"), Unit(device_id="d1")

    def fail(*_: object, **__: object) -> None:
        raise FleetError("the signer is gone")

    with monkeypatch.context() as patched:
        patched.setattr("fleet.ra.requests.provisioning.signed_leaf", fail)
        with pytest.raises(FleetError):
            await create(desk, requester, unit)
    made = await create(desk, requester, unit)

    query = AuditQuery(domain="prod", device_id="d1")
    story = [one.entry.action for one in await desk.context.store.read(audit.search, query)]
    assert story.count("provisioning.intended") == 2
    assert "provisioning.lapsed" in story
    assert (await register(desk, requester, made, SerialNumber="d1")).name == "prod:d1"


@dataclass(kw_only=True)
class Service:
    """A company's own service, which answers each question in the same words."""

    key: Secret
    clock: Clock
    words: dict[str, object]
    asked: list[str] = field(default_factory=list)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> HookReply:
        question = json.loads(body)
        self.asked.append(question["device_id"])
        answer = json.dumps({"v": 1, "id": question["id"], **self.words}).encode()
        at = int(self.clock().timestamp())
        signature = signed(self.key, at=at, body=answer, answers=question["id"])
        return HookReply(status=200, body=answer, signature=signature)


@asynccontextmanager
async def with_webhook(
    fleet_home: FleetHome, folder: Path, words: dict[str, object]
) -> AsyncIterator[tuple[Desk, Service]]:
    toml = fleet_home.home.config.read_text() + "[domains.prod.profiles.short]\nlifetime_days = 7\n"
    async with at_desk(fleet_home, folder, toml=toml) as desk:
        service = Service(key=Secret("k" * 32), clock=desk.clock, words=words)
        rules = HookRules(may_set=frozenset({"profile"}), profiles=frozenset({"short"}))
        hook = Webhook(
            service,
            rules,
            fleet=desk.context.fleet,
            secret=service.key,
            clock=desk.clock,
            randomness=desk.context.randomness,
        )
        yield replace(desk, context=replace(desk.context, webhook=hook)), service


async def test_a_webhook_that_refuses_keeps_a_thing_from_being_registered(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    words = {"decision": "refuse", "reason": "not sold yet"}
    async with with_webhook(fleet_home, tmp_path, words) as (desk, service):
        requester = await ready(desk, "d1")
        made = await create(desk, requester, Unit(device_id="d1"))
        code = await refused(register(desk, requester, made, SerialNumber="d1"))
        left = await admitted(desk)

    assert (code, service.asked) == (ProblemCode.NOT_ALLOWED, ["d1"])
    assert serial_of(made) not in left


async def test_a_webhook_that_chooses_another_profile_has_the_certificate_made_anew(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    words = {"decision": "allow", "profile": "short"}
    async with with_webhook(fleet_home, tmp_path, words) as (desk, _):
        requester, unit = await ready(desk, "d1"), Unit(device_id="d1")
        long = await create(desk, requester, unit)
        code = await refused(register(desk, requester, long, SerialNumber="d1"))
        short = await create(desk, requester, unit)
        thing = await register(desk, requester, short, SerialNumber="d1")

    assert (code, thing.name) == (ProblemCode.NOT_CURRENT, "prod:d1")
    assert leaf_of(short).not_valid_after_utc < leaf_of(long).not_valid_after_utc


async def stop_issuing(tx: Transaction, issuer: str) -> None:
    record = await load_authority_record(tx, issuer)
    assert record is not None
    await save_authority(tx, replace(record, state=AuthorityState.RETIRING))


async def test_what_a_ca_signed_that_was_stopped_since_is_not_registered(desk: Desk) -> None:
    requester = await ready(desk, "d1")
    made = await create(desk, requester, Unit(device_id="d1"))
    issuer = desk.context.authority.issuer(Purpose.DEVICE, "prod").issuer_id
    await desk.context.store.write(stop_issuing, issuer)

    assert await refused(register(desk, requester, made, SerialNumber="d1")) is ProblemCode.NOT_CURRENT
    assert serial_of(made) not in await admitted(desk)
    assert serial_of(made) in await listed(desk)


async def test_nothing_is_handed_out_while_the_fleets_past_has_a_gap(desk: Desk) -> None:
    requester = await ready(desk, "d1", "d2")
    made = await create(desk, requester, Unit(device_id="d1"))
    await desk.context.store.write(open_gap, "2030-06-01T00:00:00Z")

    assert await refused(register(desk, requester, made, SerialNumber="d1")) is ProblemCode.FROZEN
    assert await refused(create(desk, requester, Unit(device_id="d2"))) is ProblemCode.FROZEN


async def test_a_token_that_is_none_says_no_more_than_that(desk: Desk) -> None:
    requester = await ready(desk, "d1")

    asked = Registration(template="line3", token=Secret("x" * 43), parameters={"SerialNumber": "d1"})

    assert await refused(register_thing(desk.context, requester, asked)) is ProblemCode.CODE_INVALID
