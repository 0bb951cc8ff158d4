"""What operators are told of certificates: lists, records, PEM."""

from itertools import pairwise

import pytest
from cryptography import x509

from device_agent.wire.replies import Issued
from fleet.errors import NotFoundError
from fleet.model import Purpose
from fleet.ra.people import certificates
from fleet.store.certificates import CertificateQuery
from tests.desk import Desk


async def enrolled(desk: Desk, device_id: str = "d1") -> Issued:
    return (await desk.enrolled(device_id))[1]


async def test_an_exported_certificate_comes_with_its_issuing_ca(desk: Desk) -> None:
    issued = await enrolled(desk)
    leaf, issuer = x509.load_pem_x509_certificates(
        (await certificates.export(desk.context, issued.serial)).encode()
    )
    leaf.verify_directly_issued_by(issuer)


async def test_an_exported_chain_ends_in_the_trust_anchor(desk: Desk) -> None:
    issued = await enrolled(desk)
    chain = x509.load_pem_x509_certificates(
        (await certificates.export_chain(desk.context, issued.serial)).encode()
    )
    for below, above in pairwise(chain):
        below.verify_directly_issued_by(above)
    assert chain[-1] == desk.context.authority.root("prod").certificate


async def test_a_root_is_exported_alone(desk: Desk) -> None:
    query = CertificateQuery(purpose=Purpose.AUTHORITY, limit=100)
    authorities = await certificates.search(desk.context, query)
    anchor = desk.context.authority.root("prod").anchor
    root = next(one for one in authorities if one.signed is not None and one.signed.fingerprint == anchor)
    assert (await certificates.export_chain(desk.context, root.serial)).count("BEGIN CERTIFICATE") == 1


async def test_one_certificate_is_shown_with_how_it_ended(desk: Desk) -> None:
    issued = await enrolled(desk)
    assert (await certificates.show(desk.context, issued.serial)).ending is None
    await desk.revoke("d1")
    assert (await certificates.show(desk.context, issued.serial)).ending is not None
    with pytest.raises(NotFoundError):
        await certificates.show(desk.context, "f" * 32)


async def test_a_list_goes_on_after_its_last_serial(desk: Desk) -> None:
    wanted = [(await enrolled(desk, f"d{number}")).serial for number in range(3)]
    query = CertificateQuery(purpose=Purpose.DEVICE, limit=2)
    first = await certificates.search(desk.context, query)
    rest = await certificates.search(
        desk.context, CertificateQuery(purpose=Purpose.DEVICE, limit=2, after=first[-1].serial)
    )
    assert [record.serial for record in (*first, *rest)] == sorted(wanted)
