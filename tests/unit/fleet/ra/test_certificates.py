"""What operators are told of certificates: lists, records, PEM, and whether one is good."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from device_agent.wire.replies import Issued
from fleet.errors import BadInputError, NotFoundError
from fleet.model import Purpose
from fleet.ra import certificates, devices
from fleet.store.certificates import CertificateQuery
from tests.desk import NOON, Desk
from tests.pki import Pki


async def verdict(desk: Desk, pem: str, *, days: int | None = None) -> tuple[bool, str]:
    at = None if days is None else NOON + timedelta(days=days)
    found = await certificates.verify(desk.context, pem, at=at)
    return found.good, found.why


async def enrolled(desk: Desk, device_id: str = "d1") -> Issued:
    return (await desk.enrolled(device_id))[1]


async def test_a_certificate_in_force_is_good(desk: Desk) -> None:
    issued = await enrolled(desk)
    assert (await verdict(desk, issued.certificate))[0]
    assert (await certificates.verify(desk.context, issued.certificate)).serial == issued.serial


async def test_a_certificate_is_good_in_its_time_only(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    assert (await verdict(desk, pem, days=-1))[1].startswith("it is not valid before")
    assert (await verdict(desk, pem, days=89))[0]
    assert (await verdict(desk, pem, days=91))[1].startswith("it expired on")


async def test_a_revoked_certificate_was_good_before_that(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(timedelta(days=2))
    await desk.revoke("d1")
    good, why = await verdict(desk, pem)
    assert (good, why.startswith("it was revoked on"), why.endswith("(keyCompromise)")) == (False, True, True)
    assert (await verdict(desk, pem, days=1))[0]


async def test_the_certificate_of_a_suspended_device_is_not_good_now(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    await devices.suspend(desk.context, Identity(domain="prod", device_id="d1"), actor="operator:ada")
    assert await verdict(desk, pem) == (False, "its device is suspended")


async def test_a_certificate_of_somebody_else_is_not_good(desk: Desk) -> None:
    leaf = Pki().device("d1").certificate.public_bytes(Encoding.PEM).decode()
    assert await verdict(desk, leaf) == (False, "it was not issued by this fleet")


async def test_a_certificate_that_was_changed_is_not_good(desk: Desk) -> None:
    der = x509.load_pem_x509_certificate((await enrolled(desk)).certificate.encode()).public_bytes(
        Encoding.DER
    )
    changed = der[:-1] + bytes([der[-1] ^ 1])
    try:
        pem = x509.load_der_x509_certificate(changed).public_bytes(Encoding.PEM).decode()
    except ValueError:
        pytest.skip("the last octet made the signature unreadable")
    assert await verdict(desk, pem) == (False, "its signature is not that of the issuing CA that it names")


@pytest.mark.parametrize(
    "text", ["", "nothing", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
async def test_what_is_no_certificate_is_bad_input(desk: Desk, text: str) -> None:
    with pytest.raises(BadInputError):
        await certificates.verify(desk.context, text)


async def test_an_exported_certificate_comes_with_its_issuing_ca(desk: Desk) -> None:
    issued = await enrolled(desk)
    leaf, issuer = x509.load_pem_x509_certificates(
        (await certificates.export(desk.context, issued.serial)).encode()
    )
    leaf.verify_directly_issued_by(issuer)


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
