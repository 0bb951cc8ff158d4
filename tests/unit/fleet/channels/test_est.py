"""EST over the real use cases: who gets a certificate, who gets which status, and in what form."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from device_agent.wire.identity import Identity, serial_hex
from device_agent.wire.requests import Confirm
from device_agent.wire.secret import Secret
from fleet.channels.est import answerer
from fleet.exchange import HttpAnswer, HttpRequest
from fleet.model import BrokerEventKind, CertificateState, ClientKind, Purpose
from fleet.ra.devices import suspend
from fleet.ra.keeping.housekeeping import stamp_unused
from fleet.ra.people.batches import BatchOrder, create_batch
from fleet.ra.requests.answer import answer
from fleet.ra.requests.approvals import Choice, approve
from fleet.ra.succession.compromise import Loss, LossOrder, give_up
from fleet.store.devices import load_device
from tests.desk import Desk, at_desk
from tests.est import CERTS_ONLY, EstUnit, basic, certificates, leaf
from tests.homes import FleetHome

SAME_KEY = """
[fleet]
name = "acme"
[domains.prod]
same_key = true
"""


@pytest.fixture
async def lenient(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    """One domain, whose profile lets a device keep its key."""
    async with at_desk(fleet_home, tmp_path, toml=SAME_KEY) as opened:
        yield opened


def enrollment(unit: EstUnit, code: str, *, label: str = "prod") -> HttpRequest:
    return HttpRequest(
        method="POST",
        path=f"{label}/simpleenroll",
        content_type="application/pkcs10",
        authorization=Secret(basic(unit.device_id, code)),
        body=unit.csr,
        address="192.0.2.1",
    )


def renewal(unit: EstUnit, held: x509.Certificate) -> HttpRequest:
    return HttpRequest(
        method="POST",
        path="prod/simplereenroll",
        content_type="application/pkcs10",
        body=unit.csr,
        certificate=held.public_bytes(Encoding.DER),
        address="192.0.2.1",
    )


def get(path: str) -> HttpRequest:
    return HttpRequest(method="GET", path=path)


async def ask(desk: Desk, request: HttpRequest) -> HttpAnswer:
    return await answerer(desk.context)(request)


async def code_for(desk: Desk, device_id: str, *, domain: str = "prod") -> str:
    identity = await desk.register(device_id, domain=domain)
    secret = (await desk.code_for(identity)).code
    assert secret is not None
    return secret.reveal()


async def enrolled(desk: Desk, device_id: str = "d1") -> tuple[EstUnit, x509.Certificate]:
    """Return a unit with its first certificate, not used yet."""
    unit = EstUnit(device_id=device_id, dns_names=(f"{device_id}.prod.acme",))
    answer = await ask(desk, enrollment(unit, await code_for(desk, device_id)))
    assert answer.status is HTTPStatus.OK, answer.body
    return unit, leaf(answer.body)


async def used(desk: Desk, certificate: x509.Certificate, *, stamp: int) -> None:
    """Let the broker admit a connection of d1 with it."""
    await desk.happens(BrokerEventKind.CONNECTED, serial_hex(certificate.serial_number), stamp=stamp)


async def states(desk: Desk, device_id: str = "d1") -> list[CertificateState]:
    device = await desk.context.store.read(load_device, Identity(domain="prod", device_id=device_id))
    assert device is not None
    return [one.state for one in device.certificates]


async def test_a_code_over_basic_brings_the_leaf_alone_in_the_one_form(desk: Desk) -> None:
    unit = EstUnit(device_id="d1")

    found = await ask(desk, enrollment(unit, await code_for(desk, "d1")))

    assert found.status is HTTPStatus.OK
    assert found.content_type == CERTS_ONLY
    assert found.headers["Content-Transfer-Encoding"] == "base64"
    certificate = leaf(found.body)
    assert certificate.public_key() == unit.key.public_key()
    assert serial_hex(certificate.serial_number) in desk.broker.listed


async def test_its_holder_is_a_plain_client_whose_first_connection_confirms(desk: Desk) -> None:
    _, certificate = await enrolled(desk)
    device = await desk.context.store.read(load_device, Identity(domain="prod", device_id="d1"))
    assert device is not None
    assert device.kind is ClientKind.PLAIN
    assert await states(desk) == [CertificateState.ISSUED]

    await used(desk, certificate, stamp=1)

    assert await states(desk) == [CertificateState.ACTIVE]


async def test_a_device_id_with_colons_logs_in(desk: Desk) -> None:
    unit = EstUnit(device_id="line:3:0042")
    found = await ask(desk, enrollment(unit, await code_for(desk, unit.device_id)))
    assert found.status is HTTPStatus.OK


async def test_a_repeated_request_gets_the_same_certificate_and_another_key_a_conflict(desk: Desk) -> None:
    unit, thief, code = EstUnit(device_id="d1"), EstUnit(device_id="d1"), await code_for(desk, "d1")

    first = await ask(desk, enrollment(unit, code))
    again = await ask(desk, enrollment(unit, code))
    other = await ask(desk, enrollment(thief, code))

    assert leaf(first.body) == leaf(again.body)
    assert other.status is HTTPStatus.CONFLICT


async def test_who_does_not_say_who_it_is_gets_a_challenge_with_an_empty_body(desk: Desk) -> None:
    found = await ask(desk, replace(enrollment(EstUnit(device_id="d1"), "x"), authorization=None))

    assert found.status is HTTPStatus.UNAUTHORIZED
    assert found.headers["WWW-Authenticate"] == 'Basic realm="acme prod"'
    assert found.body == b""


@pytest.mark.parametrize("login", [basic("d1", "WRNG-C0DE"), basic("other", "GOOD-CODE"), "Bearer x", ""])
async def test_a_wrong_login_is_401_and_leaves_the_code_open(desk: Desk, login: str) -> None:
    await desk.code_for(await desk.register("d1"), code="GOOD-CODE")
    request = enrollment(EstUnit(device_id="d1"), "GOOD-CODE")

    refused = await ask(desk, replace(request, authorization=Secret(login)))
    taken = await ask(desk, request)

    assert refused.status is HTTPStatus.UNAUTHORIZED
    assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert refused.body
    assert taken.status is HTTPStatus.OK


async def test_failed_attempts_of_an_address_are_limited_and_good_ones_never_count(desk: Desk) -> None:
    code = await code_for(desk, "d1")
    right = enrollment(EstUnit(device_id="d1"), code)
    wrong = enrollment(EstUnit(device_id="d1"), "WRNG")
    most = desk.context.config.policy.recover_per_minute

    good = [(await ask(desk, right)).status for _ in range(most + 1)]
    bad = [(await ask(desk, wrong)).status for _ in range(most)]
    over = await ask(desk, right)
    elsewhere = await ask(desk, replace(right, address="192.0.2.2"))
    desk.clock.forward(timedelta(minutes=1))

    assert set(good) == {HTTPStatus.OK}
    assert set(bad) == {HTTPStatus.UNAUTHORIZED}
    assert over.status is HTTPStatus.TOO_MANY_REQUESTS
    assert int(over.headers["Retry-After"]) > 0
    assert elsewhere.status is HTTPStatus.OK
    assert (await ask(desk, right)).status is HTTPStatus.OK


async def test_a_request_that_names_somebody_else_is_400_and_leaves_the_code_open(desk: Desk) -> None:
    code = await code_for(desk, "d1")
    request = enrollment(EstUnit(device_id="d1"), code)

    wrong_name = await ask(desk, replace(request, body=EstUnit(device_id="d2").csr))
    wrong_host = await ask(
        desk, replace(request, body=EstUnit(device_id="d1", dns_names=("d2.prod.acme",)).csr)
    )

    assert wrong_name.status is HTTPStatus.BAD_REQUEST
    assert wrong_host.status is HTTPStatus.BAD_REQUEST
    assert (await ask(desk, request)).status is HTTPStatus.OK


@pytest.mark.parametrize(
    ("label", "status"),
    [
        ("prod", HTTPStatus.OK),
        ("prod.device", HTTPStatus.OK),
        ("lab", HTTPStatus.OK),
        ("", HTTPStatus.NOT_FOUND),  # there are two domains
        ("nowhere", HTTPStatus.NOT_FOUND),
        ("prod.", HTTPStatus.NOT_FOUND),
        ("prod.nothing", HTTPStatus.NOT_FOUND),
        ("PROD", HTTPStatus.NOT_FOUND),
        ("prod/device", HTTPStatus.NOT_FOUND),
    ],
)
async def test_a_label_chooses_domain_and_profile(desk: Desk, label: str, status: HTTPStatus) -> None:
    found = await ask(desk, get(f"{label}/cacerts"))
    assert found.status is status


async def test_where_there_is_one_domain_no_label_is_needed(lenient: Desk) -> None:
    code = await code_for(lenient, "d1")
    unlabelled = replace(enrollment(EstUnit(device_id="d1"), code), path="simpleenroll")

    assert (await ask(lenient, get("cacerts"))).status is HTTPStatus.OK
    assert (await ask(lenient, unlabelled)).status is HTTPStatus.OK


async def test_a_code_opens_no_other_domain(desk: Desk) -> None:
    code = await code_for(desk, "d1", domain="lab")
    unit = EstUnit(device_id="d1")

    assert (await ask(desk, enrollment(unit, code))).status is HTTPStatus.UNAUTHORIZED
    assert (await ask(desk, enrollment(unit, code, label="lab"))).status is HTTPStatus.OK


async def test_cacerts_holds_the_domains_chain_and_the_root_of_the_servers_and_nothing_else(
    desk: Desk,
) -> None:
    found = await ask(desk, get("prod/cacerts"))

    names = {
        one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value for one in certificates(found.body)
    }
    assert names == {"acme prod root", "acme prod device issuing CA 1", "acme fleet root"}


async def test_cacerts_names_no_ca_that_was_compromised_while_its_devices_move(desk: Desk) -> None:
    context = desk.context
    own = context.authority.issuer(Purpose.DEVICE, "prod")
    at = context.clock().replace(microsecond=0)
    await give_up(
        context, LossOrder(name="prod/device-1", loss=Loss.COMPROMISED, actor="operator:ada", at=at)
    )
    assert own.issuer_id in {one.issuer_id for one in context.authority.admitted}
    assert own.certificate not in certificates((await ask(desk, get("prod/cacerts"))).body)


@pytest.mark.parametrize("operation", ["serverkeygen", "fullcmc"])
async def test_keys_are_not_made_here(desk: Desk, operation: str) -> None:
    found = await ask(desk, HttpRequest(method="POST", path=f"prod/{operation}"))
    assert found.status is HTTPStatus.NOT_IMPLEMENTED


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "prod/cacerts", HTTPStatus.METHOD_NOT_ALLOWED),
        ("GET", "prod/simpleenroll", HTTPStatus.METHOD_NOT_ALLOWED),
        ("PUT", "prod/simplereenroll", HTTPStatus.METHOD_NOT_ALLOWED),
        ("GET", "", HTTPStatus.NOT_FOUND),
        ("GET", "prod", HTTPStatus.NOT_FOUND),
        ("GET", "prod/", HTTPStatus.NOT_FOUND),
        ("GET", "prod/cacerts/", HTTPStatus.NOT_FOUND),
        ("GET", "prod/nothing", HTTPStatus.NOT_FOUND),
    ],
)
async def test_what_is_not_there_says_so(desk: Desk, method: str, path: str, status: HTTPStatus) -> None:
    found = await ask(desk, HttpRequest(method=method, path=path))
    assert found.status is status
    assert found.body


async def test_a_registered_device_enrolls_by_the_claim_of_its_batch_alone(desk: Desk) -> None:
    request = await by_claim(desk, EstUnit(device_id="d1"))
    await desk.register("d1", batch="b1")

    found = await ask(desk, request)

    assert found.status is HTTPStatus.OK


async def by_claim(desk: Desk, unit: EstUnit, *, label: str = "prod") -> HttpRequest:
    """Make a batch, and return a request over a connection with its claim certificate."""
    order = BatchOrder(domain="prod", name="b1", uses=2, lifetime=timedelta(days=30), actor="operator:test")
    claim = (await create_batch(desk.context, order)).own.certificate.public_bytes(Encoding.DER)
    return replace(enrollment(unit, "", label=label), authorization=None, certificate=claim)


async def test_a_stranger_with_a_claim_waits_until_it_is_approved(desk: Desk) -> None:
    unit = EstUnit(device_id="stranger")
    request = await by_claim(desk, unit)

    waits = await ask(desk, request)
    await approve(
        desk.context, Choice(identity=Identity(domain="prod", device_id="stranger")), actor="operator:test"
    )
    taken = await ask(desk, request)

    assert waits.status is HTTPStatus.ACCEPTED
    assert int(waits.headers["Retry-After"]) > 0
    assert waits.body == b""
    assert len(waits.headers["X-Fleet-Approval-Code"]) == 9
    assert leaf(taken.body).public_key() == unit.key.public_key()


async def test_a_claim_opens_no_other_domain(desk: Desk) -> None:
    found = await ask(desk, await by_claim(desk, EstUnit(device_id="d1"), label="lab"))
    assert found.status is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("name", ["no.dots", " ", "x y"])
async def test_a_claim_needs_a_request_that_names_a_device(desk: Desk, name: str) -> None:
    found = await ask(desk, await by_claim(desk, EstUnit(device_id=name)))
    assert found.status is HTTPStatus.BAD_REQUEST


async def test_a_devices_own_certificate_is_no_claim(desk: Desk) -> None:
    unit, held = await enrolled(desk)
    found = await ask(desk, replace(renewal(unit, held), path="prod/simpleenroll"))
    assert found.status is HTTPStatus.FORBIDDEN


async def test_a_renewal_takes_a_new_key_and_the_next_use_supersedes(desk: Desk) -> None:
    unit, held = await enrolled(desk)
    await used(desk, held, stamp=1)
    fresh = EstUnit(device_id="d1", dns_names=unit.dns_names)

    found = await ask(desk, renewal(fresh, held))
    again = await ask(desk, renewal(fresh, held))
    await used(desk, leaf(found.body), stamp=desk.broker.stamps + 2)

    assert leaf(found.body).subject == held.subject
    assert leaf(found.body) == leaf(again.body)
    assert await states(desk) == [CertificateState.SUPERSEDED, CertificateState.ACTIVE]


async def test_a_renewal_with_the_same_key_is_refused_by_default(desk: Desk) -> None:
    unit, held = await enrolled(desk)
    assert (await ask(desk, renewal(unit, held))).status is HTTPStatus.CONFLICT


async def test_the_same_key_is_renewed_where_the_profile_allows_it(lenient: Desk) -> None:
    unit, held = await enrolled(lenient)
    await used(lenient, held, stamp=1)

    found = await ask(lenient, renewal(unit, held))

    assert found.status is HTTPStatus.OK
    assert leaf(found.body).public_key() == held.public_key()
    assert leaf(found.body).serial_number > held.serial_number


@pytest.mark.parametrize("names", [(), ("d2.prod.acme",), ("d1.prod.acme", "d2.prod.acme")])
async def test_a_renewal_is_for_the_same_names(desk: Desk, names: tuple[str, ...]) -> None:
    _, held = await enrolled(desk)
    found = await ask(desk, renewal(EstUnit(device_id="d1", dns_names=names), held))
    assert found.status is HTTPStatus.BAD_REQUEST


async def test_a_renewal_needs_a_certificate(desk: Desk) -> None:
    _, held = await enrolled(desk)
    request = renewal(EstUnit(device_id="d1", dns_names=("d1.prod.acme",)), held)
    assert (await ask(desk, replace(request, certificate=None))).status is HTTPStatus.FORBIDDEN


async def test_a_certificate_renews_in_its_own_domain_only(desk: Desk) -> None:
    unit, held = await enrolled(desk)
    found = await ask(desk, replace(renewal(unit, held), path="lab/simplereenroll"))
    assert found.status is HTTPStatus.FORBIDDEN


async def test_a_revoked_device_renews_nothing(desk: Desk) -> None:
    unit, held = await enrolled(desk)
    await desk.revoke("d1")
    fresh = EstUnit(device_id="d1", dns_names=unit.dns_names)
    assert (await ask(desk, renewal(fresh, held))).status is HTTPStatus.FORBIDDEN


async def test_a_suspended_device_renews_nothing(desk: Desk) -> None:
    unit, held = await enrolled(desk)
    await suspend(desk.context, Identity(domain="prod", device_id="d1"), actor="operator:test")
    fresh = EstUnit(device_id="d1", dns_names=unit.dns_names)
    assert (await ask(desk, renewal(fresh, held))).status is HTTPStatus.FORBIDDEN


async def test_a_superseded_certificate_gets_nothing_new(desk: Desk) -> None:
    unit, held = await enrolled(desk)
    await used(desk, held, stamp=1)
    second = EstUnit(device_id="d1", dns_names=unit.dns_names)
    found = await ask(desk, renewal(second, held))
    await used(desk, leaf(found.body), stamp=desk.broker.stamps + 2)

    third = await ask(desk, renewal(EstUnit(device_id="d1", dns_names=unit.dns_names), held))

    assert third.status is HTTPStatus.CONFLICT


async def test_a_device_with_an_agent_is_renewed_by_its_agent_alone(desk: Desk) -> None:
    unit, issued = await desk.enrolled("d1")
    await answer(desk.context, desk.speaking(issued), Confirm(id="x"))
    held = x509.load_pem_x509_certificate(issued.certificate.encode())
    fresh = EstUnit(device_id=unit.device_id, dns_names=("d1.prod.acme",))

    assert (await ask(desk, renewal(fresh, held))).status is HTTPStatus.BAD_REQUEST


async def test_junk_in_place_of_a_client_certificate_is_400(desk: Desk) -> None:
    request = enrollment(EstUnit(device_id="d1"), "x")
    assert (await ask(desk, replace(request, certificate=b"junk"))).status is HTTPStatus.BAD_REQUEST


async def test_the_store_being_away_is_503_with_a_time_to_come_back(desk: Desk) -> None:
    code = await code_for(desk, "d1")
    await desk.context.store.close()

    found = await ask(desk, enrollment(EstUnit(device_id="d1"), code))

    assert found.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert int(found.headers["Retry-After"]) > 0


async def stamps(desk: Desk) -> list[int | None]:
    device = await desk.context.store.read(load_device, Identity(domain="prod", device_id="d1"))
    assert device is not None
    return [one.issued_stamp for one in device.certificates]


async def test_a_repeated_request_makes_up_for_a_stamp_that_the_broker_did_not_tell(desk: Desk) -> None:
    request = enrollment(EstUnit(device_id="d1"), await code_for(desk, "d1"))
    desk.broker.fails, desk.broker.stamps = True, 7

    first = await ask(desk, request)
    before = await stamps(desk)
    desk.broker.fails = False
    again = await ask(desk, request)

    assert first.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert again.status is HTTPStatus.OK
    assert (before, await stamps(desk)) == ([None], [7])


async def test_a_stamp_that_a_stop_has_cost_is_read_at_the_next_start(desk: Desk) -> None:
    request = enrollment(EstUnit(device_id="d1"), await code_for(desk, "d1"))
    desk.broker.fails, desk.broker.stamps = True, 7
    await ask(desk, request)
    desk.broker.fails = False
    desk.clock.forward(timedelta(minutes=1))

    await stamp_unused(desk.context)

    assert await stamps(desk) == [7]
