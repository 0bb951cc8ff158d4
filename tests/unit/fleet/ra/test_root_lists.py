"""Lists of CAs whose keys are elsewhere: a root's own, made of what is on record, and a company's."""

import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.ca.crl import read_crl
from fleet.ca.issuer import issuer_id_of, pem_bundle
from fleet.ca.root_at_hand import open_root, sign_list
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.files import read_secret
from fleet.home import Home
from fleet.model import CertificateState, Purpose, RevocationReason
from fleet.ports import Transaction
from fleet.ra.authority.certified_authority import Certification, certify_authority
from fleet.ra.authority.new_authority import AuthorityOrder, request_authority
from fleet.ra.authority.root_lists import ListOrder, order_list, publish_list, take_list
from fleet.store.certificates import CertificateQuery, end_certificate, list_certificates
from tests.company import Company, CompanyCa
from tests.desk import NOON, Desk, at_desk
from tests.homes import FleetHome, authority_of

ACTOR = "operator:ada"
YEAR = timedelta(days=365)


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    home = Home(Path(shutil.copytree(fleet_home.home.root, tmp_path / "home")))
    copied = FleetHome(home=home, authority=authority_of(home), made_at=fleet_home.made_at)
    async with at_desk(copied, tmp_path) as opened:
        yield opened


def signed(desk: Desk, order: ListOrder, *, realm: str = "prod", lifetime: timedelta = YEAR) -> bytes:
    home = desk.context.home
    root = open_root(home.authority(realm), fleet="acme", passphrase=read_secret(home.root_passphrase))
    entries = [order.entries.der] if order.entries.der else []
    return sign_list(root, entries, number=order.number, now=desk.clock(), lifetime=lifetime)


async def revoke_the_ca(desk: Desk) -> str:
    """Put the issuing CA of prod on its root's list, on record; return its serial."""

    async def work(tx: Transaction, _argument: None) -> str:
        found = await list_certificates(tx, CertificateQuery(purpose=Purpose.AUTHORITY, domain="prod"))
        issuing = next(one for one in found if "issuing" in one.name)
        reason = RevocationReason.KEY_COMPROMISE
        await end_certificate(tx, issuing.serial, state=CertificateState.REVOKED, reason=reason, at=NOON)
        return issuing.serial

    return await desk.context.store.write(work, None)


async def test_a_roots_list_is_renewed_and_served_at_once(desk: Desk) -> None:
    order = await order_list(desk.context, "prod")
    taken = await take_list(desk.context, "prod", encoded := signed(desk, order), actor=ACTOR)
    assert (taken.crl.number, taken.crl.serials) == (order.number, frozenset())
    assert taken.crl.number > 1
    assert desk.context.authority.root("prod").crl == encoded
    assert desk.context.home.authority("prod").crl.read_bytes() == encoded


async def test_a_list_names_what_is_revoked_and_one_that_does_not_is_refused(desk: Desk) -> None:
    before = await order_list(desk.context, "prod")
    serial = await revoke_the_ca(desk)
    with pytest.raises(BadInputError, match="does not name 1 certificates"):
        await take_list(desk.context, "prod", signed(desk, before), actor=ACTOR)
    order = await order_list(desk.context, "prod")
    taken = await take_list(desk.context, "prod", signed(desk, order), actor=ACTOR)
    assert taken.crl.serials == {serial}


async def test_a_list_never_goes_back(desk: Desk) -> None:
    first, second = [await order_list(desk.context, "prod") for _ in range(2)]
    late = signed(desk, second)
    await take_list(desk.context, "prod", late, actor=ACTOR)
    with pytest.raises(BadInputError, match=f"number {second.number} is in force"):
        await take_list(desk.context, "prod", signed(desk, first), actor=ACTOR)
    assert (await take_list(desk.context, "prod", late, actor=ACTOR)).crl.number == second.number


async def test_a_list_of_another_root_or_out_of_its_time_is_refused(desk: Desk) -> None:
    order = await order_list(desk.context, "prod")
    with pytest.raises(BadInputError):
        await take_list(desk.context, "prod", signed(desk, order, realm="lab"), actor=ACTOR)
    short = signed(desk, order, lifetime=timedelta(hours=1))
    desk.clock.forward(timedelta(hours=2))
    with pytest.raises(BadInputError, match="the list ended"):
        await take_list(desk.context, "prod", short, actor=ACTOR)
    with pytest.raises(BadInputError):
        await take_list(desk.context, "prod", b"junk", actor=ACTOR)


async def test_an_issuing_cas_list_is_made_by_the_server(desk: Desk) -> None:
    first = await publish_list(desk.context, "prod/device-1")
    assert (await publish_list(desk.context, "prod/device-1")).crl.number > first.crl.number
    for name in ("prod", "nowhere"):
        with pytest.raises(NotFoundError):
            await publish_list(desk.context, name)


def list_of(ca: CompanyCa, number: int) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(NOON)
        .next_update(NOON + YEAR)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
        )
    )
    return builder.sign(ca.key, hashes.SHA384()).public_bytes(Encoding.DER)


async def test_a_companys_lists_are_handed_in_for_its_root_and_its_intermediate(desk: Desk) -> None:
    company = Company(now=desk.clock())
    order = AuthorityOrder(realm="prod", purpose=Purpose.DEVICE, actor=ACTOR)
    requested = await request_authority(desk.context, order)
    certification = Certification(
        name=requested.record.folder,
        chain_pem=pem_bundle(company.chain_for(requested.csr_pem)),
        anchor_pem=pem_bundle([company.root.certificate]),
        actor=ACTOR,
    )
    await certify_authority(desk.context, certification)
    intermediate = issuer_id_of(company.intermediate.certificate)
    with pytest.raises(RefusedError, match="somebody else's"):
        await order_list(desk.context, "prod/root-2")
    await take_list(desk.context, "prod/root-2", list_of(company.root, 7), actor=ACTOR)
    await take_list(desk.context, intermediate, encoded := list_of(company.intermediate, 9), actor=ACTOR)
    (above,) = desk.context.authority.above
    assert above.crl == encoded
    assert read_crl(encoded, above.certificate).number == 9
    assert desk.context.authority.certificate(intermediate) == company.intermediate.certificate
    with pytest.raises(BadInputError, match="number 9 is in force"):
        await take_list(desk.context, intermediate, list_of(company.intermediate, 8), actor=ACTOR)
