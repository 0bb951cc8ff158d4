"""Another issuing CA on a living fleet: asked for, certified by our root or by a company, put to work."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509

from device_agent.wire.replies import Issued
from device_agent.wire.requests import Confirm, Renew
from fleet.ca.issuer import Issuer, pem_bundle
from fleet.ca.root_at_hand import IssuingOrder, open_root, sign_issuing
from fleet.core.authority import AuthorityRecord, AuthorityState, KeyKind
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError
from fleet.files import read_secret
from fleet.home import Home
from fleet.model import Purpose
from fleet.ra.authority.authorities import (
    activate_authority,
    limit_authority,
    reload_authority,
    stop_authority,
)
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority.new_authority import AuthorityOrder, Requested, pending_request, request_authority
from fleet.ra.requests.answer import answer
from fleet.store.audit import AuditQuery, search
from fleet.store.authorities import list_authorities
from tests.company import Company
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome, authority_of, key_ring

ACTOR = "operator:ada"
ORDER = AuthorityOrder(realm="prod", purpose=Purpose.DEVICE, actor=ACTOR)


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk in a home of its own, whose files may change."""
    home = Home(Path(shutil.copytree(fleet_home.home.root, tmp_path / "home")))
    copied = FleetHome(home=home, authority=authority_of(home), made_at=fleet_home.made_at)
    async with at_desk(copied, tmp_path) as opened:
        yield opened


def root_of(desk: Desk, realm: str = "prod") -> Issuer:
    home = desk.context.home
    return open_root(home.authority(realm), fleet="acme", passphrase=read_secret(home.root_passphrase))


def signed_by_root(desk: Desk, requested: Requested, realm: str = "prod") -> str:
    order = IssuingOrder(
        csr_pem=requested.csr_pem,
        common_name=requested.common_name,
        purpose=requested.record.purpose,
        status_url=desk.context.endpoints.status_url,
    )
    return sign_issuing(root_of(desk, realm), order, now=desk.clock(), randomness=os.urandom).pem


async def added(desk: Desk, order: AuthorityOrder = ORDER) -> AuthorityRecord:
    """Ask for a CA, and have it certified by the root of the home."""
    requested = await request_authority(desk.context, order)
    chain = signed_by_root(desk, requested, order.realm)
    return await certify(desk, requested, chain)


async def certify(desk: Desk, requested: Requested, chain: str, *, anchor: str = "") -> AuthorityRecord:
    what = Certification(name=requested.record.folder, chain_pem=chain, anchor_pem=anchor, actor=ACTOR)
    return await certify_authority(desk.context, what)


async def enroll(desk: Desk, device_id: str) -> Issued:
    identity = await desk.register(device_id)
    unit = Unit(device_id=device_id)
    reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(await desk.code_for(identity)))
    assert isinstance(reply, Issued), reply
    return reply


async def states(desk: Desk) -> dict[str, AuthorityState]:
    records = await desk.context.store.read(list_authorities, None)
    return {record.folder: record.state for record in records if record.realm == "prod"}


async def actions(desk: Desk) -> list[str]:
    found = await desk.context.store.read(search, AuditQuery(limit=1000))
    return [one.entry.action for one in found if one.entry.action.startswith("authority.")][-4:]


async def test_another_issuing_ca_stands_by_until_it_is_activated_and_then_signs(desk: Desk) -> None:
    record = await added(desk)
    assert (record.folder, record.state) == ("prod/device-2", AuthorityState.STANDBY)
    assert len(desk.context.authority.active(Purpose.DEVICE, "prod")) == 1
    await activate_authority(desk.context, record.folder, actor=ACTOR)
    await stop_authority(desk.context, "prod/device-1", actor=ACTOR)
    issued = await enroll(desk, "d1")
    (signed_by,) = x509.load_pem_x509_certificates(issued.chain.encode())
    x509.load_pem_x509_certificate(issued.certificate.encode()).verify_directly_issued_by(signed_by)
    assert desk.context.authority.issuer(Purpose.DEVICE, "prod").certificate == signed_by
    assert await actions(desk) == [
        "authority.requested",
        "authority.certified",
        "authority.activated",
        "authority.stopped",
    ]


async def test_leaves_go_to_the_next_ca_when_the_first_is_full(desk: Desk) -> None:
    record = await added(desk)
    await activate_authority(desk.context, record.folder, actor=ACTOR)
    await limit_authority(desk.context, "prod/device-1", room=2, actor=ACTOR)
    first, second = desk.context.authority.active(Purpose.DEVICE, "prod")
    chains = [(await enroll(desk, f"d{number}")).chain for number in range(4)]
    assert chains == [first.chain_pem] * 2 + [second.chain_pem] * 2
    await limit_authority(desk.context, "prod/device-1", room=None, actor=ACTOR)
    assert (await enroll(desk, "d4")).chain == first.chain_pem
    with pytest.raises(RefusedError, match="has no leaves"):
        await limit_authority(desk.context, "prod", room=2, actor=ACTOR)


async def test_a_renewal_goes_to_a_ca_that_is_active(desk: Desk) -> None:
    issued = await enroll(desk, "d1")
    await answer(desk.context, desk.speaking(issued), Confirm(id=str(uuid4())))
    record = await added(desk)
    await activate_authority(desk.context, record.folder, actor=ACTOR)
    await stop_authority(desk.context, "prod/device-1", actor=ACTOR)
    request = Renew(id=str(uuid4()), csr=Unit(device_id="d1").csr, attempt=1)
    renewed = await answer(desk.context, desk.speaking(issued), request)
    assert isinstance(renewed, Issued)
    assert renewed.chain != issued.chain
    assert desk.context.authority.issuer(Purpose.DEVICE, "prod").chain_pem == renewed.chain


async def test_what_is_not_certified_yet_is_on_record_with_its_request(desk: Desk) -> None:
    requested = await request_authority(desk.context, ORDER)
    assert (await states(desk))["prod/device-2"] is AuthorityState.REQUESTED
    assert await pending_request(desk.context, requested.record) == requested.csr_pem
    csr = x509.load_pem_x509_csr(requested.csr_pem.encode())
    assert csr.is_signature_valid
    assert csr.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    await reload_authority(desk.context)
    await enroll(desk, "d1")


async def test_numbers_are_never_used_twice(desk: Desk) -> None:
    first = await request_authority(desk.context, ORDER)
    second = await request_authority(desk.context, ORDER)
    assert (first.record.folder, second.record.folder) == ("prod/device-2", "prod/device-3")


async def test_a_request_that_was_cut_off_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = sorted(path.name for path in (desk.context.home.ca / "prod").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("fleet.ra.authority.new_authority.sync_folder", cut_off)
        with pytest.raises(KeyboardInterrupt):
            await request_authority(desk.context, ORDER)
    assert sorted(path.name for path in (desk.context.home.ca / "prod").iterdir()) == before


async def test_what_a_crash_left_is_cleared_away_unless_it_has_its_name_already(desk: Desk) -> None:
    requested = await request_authority(desk.context, ORDER)
    realm = desk.context.home.ca / "prod"
    shutil.copytree(realm / "device-2", realm / "device-7")  # its record was never written
    (realm / ".device-9.0123456789abcdef.partial").mkdir()
    following = await request_authority(desk.context, ORDER)
    assert following.record.folder == "prod/device-8"
    names = {path.name for path in realm.iterdir() if path.is_dir()}
    assert names == {"device-1", "device-2", "device-7", "device-8"}
    assert await pending_request(desk.context, requested.record) == requested.csr_pem


async def test_a_chain_is_taken_once_and_again_with_the_same_result(desk: Desk) -> None:
    requested = await request_authority(desk.context, ORDER)
    chain = signed_by_root(desk, requested)
    first = await certify(desk, requested, chain)
    assert await certify(desk, requested, chain) == first
    with pytest.raises(RefusedError, match="cannot be certified"):
        await certify(desk, requested, signed_by_root(desk, requested))


async def test_a_certificate_for_another_key_is_refused_and_the_ca_goes_on_waiting(desk: Desk) -> None:
    one, other = [await request_authority(desk.context, ORDER) for _ in range(2)]
    with pytest.raises(BadInputError, match="key of the request"):
        await certify(desk, one, signed_by_root(desk, other))
    assert (await states(desk))["prod/device-2"] is AuthorityState.REQUESTED
    assert (await certify(desk, one, signed_by_root(desk, one))).state is AuthorityState.STANDBY


async def test_the_root_of_another_domain_is_not_believed(desk: Desk) -> None:
    requested = await request_authority(desk.context, ORDER)
    with pytest.raises(BadInputError, match="no root that is trusted here"):
        await certify(desk, requested, signed_by_root(desk, requested, "lab"))


async def test_the_last_ca_that_signs_is_not_stopped(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="the last that signs for prod"):
        await stop_authority(desk.context, "prod/device-1", actor=ACTOR)
    await enroll(desk, "d1")


async def test_neither_a_root_nor_a_request_can_be_activated(desk: Desk) -> None:
    requested = await request_authority(desk.context, ORDER)
    for name in ("prod", requested.record.folder):
        with pytest.raises(RefusedError):
            await activate_authority(desk.context, name, actor=ACTOR)
    with pytest.raises(NotFoundError):
        await activate_authority(desk.context, "prod/device-9", actor=ACTOR)


@pytest.mark.parametrize(
    ("realm", "purpose"),
    [("prod", Purpose.SERVER), ("fleet", Purpose.DEVICE), ("bootstrap", Purpose.OPERATOR)],
)
async def test_each_realm_has_cas_for_its_own_purposes(desk: Desk, realm: str, purpose: Purpose) -> None:
    with pytest.raises(BadInputError, match="has no issuing CA for"):
        await request_authority(desk.context, AuthorityOrder(realm=realm, purpose=purpose, actor=ACTOR))


async def test_the_fleets_own_cas_can_be_joined_by_others(desk: Desk) -> None:
    record = await added(desk, AuthorityOrder(realm="fleet", purpose=Purpose.OPERATOR, actor=ACTOR))
    await activate_authority(desk.context, record.issuer, actor=ACTOR)
    assert len(desk.context.authority.active(Purpose.OPERATOR)) == 2


async def test_a_company_s_root_and_intermediate_stand_above_our_ca(desk: Desk) -> None:
    company = Company(now=desk.clock())
    requested = await request_authority(desk.context, ORDER)
    chain = company.chain_for(requested.csr_pem)
    with pytest.raises(BadInputError, match="not trusted here"):
        await certify(desk, requested, pem_bundle(chain))
    record = await certify(
        desk, requested, pem_bundle(chain[:-1]), anchor=pem_bundle([company.root.certificate])
    )
    assert (await states(desk))["prod/root-2"] is AuthorityState.STANDBY
    await activate_authority(desk.context, record.folder, actor=ACTOR)
    issued = await enroll(desk, "d1")
    assert x509.load_pem_x509_certificates(issued.chain.encode()) == chain[:-1]
    # No device was there: nobody is told to believe the root that the home had made.
    assert x509.load_pem_x509_certificates(issued.trust.encode()) == [company.root.certificate]
    assert await states(desk) == {
        "prod": AuthorityState.RETIRED,
        "prod/device-1": AuthorityState.RETIRED,
        "prod/device-2": AuthorityState.ACTIVE,
        "prod/root-2": AuthorityState.ACTIVE,
    }
    (root,) = [one for one in desk.context.authority.records if one.folder == "prod/root-2"]
    assert root.key is KeyKind.ELSEWHERE


async def test_a_root_that_devices_do_not_know_is_not_taken_into_use_over_their_heads(desk: Desk) -> None:
    await enroll(desk, "d1")
    company = Company(now=desk.clock())
    requested = await request_authority(desk.context, ORDER)
    record = await certify(
        desk,
        requested,
        pem_bundle(company.chain_for(requested.csr_pem)),
        anchor=pem_bundle([company.root.certificate]),
    )
    with pytest.raises(RefusedError, match="trust prod by another one") as caught:
        await activate_authority(desk.context, record.folder, actor=ACTOR)
    assert caught.value.hint is not None
    assert (await states(desk))["prod/device-2"] is AuthorityState.STANDBY


async def test_a_key_that_cannot_be_used_is_not_activated(desk: Desk) -> None:
    record = await added(desk)
    (desk.context.home.ca / record.folder / "ca.key").unlink()
    desk.context.in_force.keys = key_ring(desk.context.home)
    await reload_authority(desk.context)
    with pytest.raises(FleetError, match="not there"):
        await activate_authority(desk.context, record.folder, actor=ACTOR)
    assert (await states(desk))["prod/device-2"] is AuthorityState.STANDBY
