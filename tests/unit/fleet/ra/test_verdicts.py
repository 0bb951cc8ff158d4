"""Whether a certificate is good, was good, and in one sentence why not: a case for each that can be wrong."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from device_agent.wire.replies import Issued
from device_agent.wire.requests import Confirm, Renew
from fleet.ca.issuer import pem_bundle, pem_of
from fleet.ca.signers import make_key
from fleet.core.authority import AuthorityState
from fleet.core.profile import DEFAULT_PROFILES, device_applicant
from fleet.core.serial import new_serial
from fleet.errors import BadInputError
from fleet.model import Certificate, CertificateState, Purpose
from fleet.ra import devices
from fleet.ra.requests.answer import answer
from fleet.ra.status.verdict_faults import Standing, Wanted
from fleet.ra.status.verdicts import Verdict, verify
from fleet.store.authorities import load_authority_record, save_authority
from fleet.store.certificates import CertificateRecord, SignedCertificate, insert_certificate
from fleet.store.keys import block_key
from tests.desk import NOON, Desk, Unit
from tests.pki import Pki

D1 = Identity(domain="prod", device_id="d1")
TEST = "operator:test"


async def judged(desk: Desk, pem: str, *, days: float | None = None, **wanted: object) -> Verdict:
    at = None if days is None else NOON + timedelta(days=days)
    return await verify(desk.context, pem, replace(Wanted(at=at), **wanted))  # type: ignore[arg-type]  # members of Wanted


async def enrolled(desk: Desk, device_id: str = "d1", *, domain: str = "prod") -> Issued:
    issued = (await desk.enrolled(device_id, domain=domain))[1]
    asker = desk.speaking(issued, device_id=device_id, domain=domain)
    await answer(desk.context, asker, Confirm(id="c"))
    return issued


async def renewed(desk: Desk, issued: Issued) -> Issued:
    request = Renew(id=str(uuid4()), csr=Unit(device_id="d1").csr, attempt=1)
    second = await answer(desk.context, desk.speaking(issued), request)
    assert isinstance(second, Issued)
    return second


def by_our_key(desk: Desk, *, serial: str = "", signer: bool = True) -> str:
    """A certificate that the issuing CA of prod would make, off the record; or one that only looks so."""
    issuer = desk.context.authority.issuer(Purpose.DEVICE, "prod")
    number = serial or new_serial(now=NOON, randomness=bytes(13))
    template = DEFAULT_PROFILES[Purpose.DEVICE].template(
        device_applicant(D1, fleet="acme"),
        make_key().public_key(),
        now=NOON,
        issuer=issuer.facts("http://localhost"),
    )
    leaf = x509.load_der_x509_certificate(issuer.issue(template, serial=number).der)
    if signer:
        return pem_bundle([leaf])
    builder = x509.CertificateBuilder().subject_name(leaf.subject).issuer_name(leaf.issuer)
    builder = builder.public_key(leaf.public_key()).serial_number(leaf.serial_number)  # type: ignore[arg-type]  # ours
    builder = builder.not_valid_before(leaf.not_valid_before_utc).not_valid_after(leaf.not_valid_after_utc)
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(make_key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def test_a_certificate_in_force_is_good_and_says_what_it_is(desk: Desk) -> None:
    issued = await enrolled(desk)
    found = await judged(desk, issued.certificate)
    assert (found.good, found.standing, found.serial) == (True, Standing.GOOD, issued.serial)
    assert found.why.startswith(
        "device certificate of prod:d1, signed by acme prod device issuing CA 1, on record"
    )


async def test_every_certificate_that_the_fleet_runs_on_is_good(desk: Desk) -> None:
    home, authority = desk.context.home, desk.context.authority
    files = [home.server.certificate, home.service.certificate, home.operator("admin").certificate]
    pems = [path.read_text() for path in files]
    pems += [pem_bundle([one.certificate]) for one in (*authority.roots, *authority.issuers)]
    made = x509.load_pem_x509_certificate(pems[0].encode()).not_valid_before_utc + timedelta(hours=2)
    for pem in pems:
        assert (await verify(desk.context, pem, Wanted(at=made))).why.endswith("not revoked then")
    canary = await verify(desk.context, home.canary.certificate.read_text(), Wanted(at=made))
    assert canary.standing is Standing.REVOKED


async def not_ours(_desk: Desk) -> str:
    return Pki().device("d1").certificate.public_bytes(Encoding.PEM).decode()


async def forged(desk: Desk) -> str:
    return by_our_key(desk, signer=False)


async def off_the_record(desk: Desk) -> str:
    return by_our_key(desk)


async def with_the_serial_of_another(desk: Desk) -> str:
    return by_our_key(desk, serial=(await enrolled(desk)).serial)


async def never_handed_out(desk: Desk) -> str:
    pem = by_our_key(desk)
    leaf = x509.load_pem_x509_certificate(pem.encode())
    issuer = desk.context.authority.issuer(Purpose.DEVICE, "prod")
    await desk.register("d1")
    record = CertificateRecord(
        life=Certificate(serial=f"{leaf.serial_number:032x}", key_hash="0" * 64, state=CertificateState.VOID),
        purpose=Purpose.DEVICE,
        name="prod:d1",
        domain="prod",
        device_id="d1",
        issuer=issuer.issuer_id,
        created_at=NOON,
        changed_at=NOON,
    )
    await desk.context.store.write(insert_certificate, record)
    return pem


async def of_the_other_domain(desk: Desk) -> str:
    return (await enrolled(desk, domain="lab")).certificate


async def revoked(desk: Desk) -> str:
    pem = (await enrolled(desk)).certificate
    await desk.revoke("d1")
    return pem


async def superseded(desk: Desk) -> str:
    first = await enrolled(desk)
    second = await renewed(desk, first)
    await answer(desk.context, desk.speaking(second), Confirm(id="c"))
    return first.certificate


async def given_up(desk: Desk) -> str:
    first = await enrolled(desk)
    second = await renewed(desk, first)
    request = Renew(id=str(uuid4()), csr=Unit(device_id="d1").csr, attempt=2)
    await answer(desk.context, desk.speaking(first), request)
    return second.certificate


async def suspended(desk: Desk) -> str:
    pem = (await enrolled(desk)).certificate
    await devices.suspend(desk.context, D1, actor=TEST)
    return pem


async def expired(desk: Desk) -> str:
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(timedelta(days=91))
    return pem


async def not_yet_valid(desk: Desk) -> str:
    desk.clock.forward(timedelta(days=30))
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(-timedelta(days=30))
    return pem


async def with_a_blocked_key(desk: Desk) -> str:
    unit, issued = await desk.enrolled("d1")

    async def block(tx: object, hashed: str) -> None:
        await block_key(tx, hashed, reason="found in a firmware image", at=NOON)  # type: ignore[arg-type]  # a transaction

    await desk.context.store.write(block, unit.key_hash)
    return issued.certificate


async def under_a_compromised_ca(desk: Desk) -> str:
    pem = (await enrolled(desk)).certificate
    await bring_ca(desk, AuthorityState.COMPROMISED)
    return pem


async def bring_ca(desk: Desk, state: AuthorityState) -> None:
    issuer = desk.context.authority.issuer(Purpose.DEVICE, "prod").issuer_id
    record = await desk.context.store.read(load_authority_record, issuer)
    assert record is not None
    moved = replace(record, state=state, changed_at=desk.clock())
    await desk.context.store.write(save_authority, moved)
    authority = desk.context.authority
    records = tuple(moved if one.issuer == issuer else one for one in authority.records)
    desk.context.in_force.replace(authority=replace(authority, records=records))


CASES: dict[str, tuple[Callable[[Desk], Awaitable[str]], Standing, str]] = {
    "of another fleet": (not_ours, Standing.OTHER_FLEET, "which is no CA of this fleet"),
    "forged": (forged, Standing.FORGED, "it is forged: it names acme prod device issuing CA 1"),
    "off the record": (off_the_record, Standing.UNKNOWN, "forged with its key, or lost with the records"),
    "with another's serial": (with_the_serial_of_another, Standing.FORGED, "another certificate, of prod:d1"),
    "never handed out": (never_handed_out, Standing.UNDELIVERED, "intended on 2030-06-01 and never"),
    "of another domain": (
        of_the_other_domain,
        Standing.WRONG_DOMAIN,
        "it is of domain lab, and worth nothing",
    ),
    "revoked": (revoked, Standing.REVOKED, "revoked on 2030-06-01 12:00 UTC (keyCompromise)"),
    "superseded": (superseded, Standing.SUPERSEDED, "it was superseded by 43"),
    "given up": (given_up, Standing.SUPERSEDED, "given up unused on 2030-06-01"),
    "suspended": (suspended, Standing.SUSPENDED, "its device was suspended on 2030-06-01"),
    "expired": (expired, Standing.EXPIRED, "it expired on 2030-08-30"),
    "not yet valid": (not_yet_valid, Standing.NOT_YET_VALID, "it is not valid before 2030-07-01"),
    "with a blocked key": (with_a_blocked_key, Standing.WEAK_KEY, "found in a firmware image"),
    "under a compromised CA": (under_a_compromised_ca, Standing.CA_NOT_GOOD, "given up as compromised"),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_is_not_good_says_why_in_one_sentence(desk: Desk, name: str) -> None:
    make, standing, words = CASES[name]
    found = await judged(desk, await make(desk), domain="prod", purpose=Purpose.DEVICE)
    assert (found.good, found.standing) == (False, standing)
    assert words in found.why
    assert "\n" not in found.why
    assert not found.why.endswith(".")


def test_there_is_a_case_for_every_standing() -> None:
    tested = {standing for _, standing, _ in CASES.values()}
    assert set(Standing) - tested == {Standing.GOOD, Standing.WRONG_PURPOSE}


async def test_an_operators_certificate_is_no_device_s(desk: Desk) -> None:
    pem = desk.context.home.operator("admin").certificate.read_text()
    found = await judged(desk, pem, days=-30, purpose=Purpose.DEVICE)
    assert found.standing is Standing.WRONG_PURPOSE


async def test_a_leaf_of_an_adopted_fleet_is_what_its_record_says(desk: Desk) -> None:
    pki = Pki()
    leaf = pki.device("d1").certificate
    pem = leaf.public_bytes(Encoding.PEM).decode()
    await desk.register("d1")
    der = leaf.public_bytes(Encoding.DER)
    name = "00" + "1" * 30
    signed = SignedCertificate(
        serial=name,
        issuer="ab" * 20,
        fingerprint=hashlib.sha256(der).hexdigest(),
        not_before=NOON - timedelta(days=1),
        not_after=NOON + timedelta(days=900),
        der=der,
    )
    record = CertificateRecord(
        life=Certificate(serial=name, key_hash="1" * 64, state=CertificateState.ACTIVE),
        purpose=Purpose.DEVICE,
        name="prod:d1",
        domain="prod",
        device_id="d1",
        issuer=signed.issuer,
        created_at=NOON,
        changed_at=NOON,
        signed=signed,
    )
    await desk.context.store.write(insert_certificate, record)
    at = leaf.not_valid_before_utc + timedelta(minutes=5)
    found = await verify(desk.context, pem, Wanted(at=at, domain="prod"))
    assert (found.standing, "of an adopted fleet, on record" in found.why) == (Standing.GOOD, True)
    await desk.revoke("d1")
    desk.clock.forward(timedelta(days=1))
    assert (await verify(desk.context, pem, Wanted(at=at))).good
    assert (await verify(desk.context, pem, Wanted(at=desk.clock()))).standing in {
        Standing.REVOKED,
        Standing.EXPIRED,
    }


# --- history --------------------------------------------------------------------------------------


async def test_a_revoked_certificate_was_good_before_that_and_says_what_came_later(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(timedelta(days=2))
    await desk.revoke("d1")
    assert (await judged(desk, pem)).standing is Standing.REVOKED
    before = await judged(desk, pem, days=1)
    assert (before.good, before.why.endswith("; keyCompromise since 2030-06-03 12:00 UTC")) == (True, True)


async def test_a_superseded_certificate_was_good_while_it_was_in_use(desk: Desk) -> None:
    first = await enrolled(desk)
    desk.clock.forward(timedelta(days=60))
    second = await renewed(desk, first)
    await answer(desk.context, desk.speaking(second), Confirm(id="c"))
    assert (await judged(desk, first.certificate, days=59)).good
    later = await judged(desk, first.certificate, days=61)
    assert (later.standing, second.serial in later.why) == (Standing.SUPERSEDED, True)


async def test_a_suspension_that_has_ended_counts_for_its_time_alone(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(timedelta(days=1))
    await devices.suspend(desk.context, D1, actor=TEST)
    desk.clock.forward(timedelta(days=1))
    await devices.resume(desk.context, D1, actor=TEST)
    standings = [(await judged(desk, pem, days=day)).standing for day in (0.5, 1.5, 2.5)]
    assert standings == [Standing.GOOD, Standing.SUSPENDED, Standing.GOOD]


async def test_one_that_was_suspended_and_then_revoked_is_told_apart_by_the_day(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(timedelta(days=1))
    await devices.suspend(desk.context, D1, actor=TEST)
    desk.clock.forward(timedelta(days=1))
    await desk.revoke("d1")
    standings = [(await judged(desk, pem, days=day)).standing for day in (0.5, 1.5, 2.5)]
    assert standings == [Standing.GOOD, Standing.SUSPENDED, Standing.REVOKED]


async def test_what_a_retired_ca_has_signed_stays_good(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(timedelta(days=1))
    await bring_ca(desk, AuthorityState.RETIRED)
    assert (await judged(desk, pem)).good
    assert (await judged(desk, pem, days=0.5)).good


@pytest.mark.parametrize("state", [AuthorityState.RETIRING, AuthorityState.RETIRED])
async def test_a_ca_that_signs_no_more_is_good_and_says_so(desk: Desk, state: AuthorityState) -> None:
    own = pem_bundle([desk.context.authority.issuer(Purpose.DEVICE, "prod").certificate])
    assert "good for what it signed" not in (await judged(desk, own)).why
    await bring_ca(desk, state)
    found = await judged(desk, own)
    assert found.good
    assert f"; {state} since " in found.why
    assert "good for what it signed, until " in found.why


async def test_what_a_compromised_ca_has_signed_was_good_before(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    desk.clock.forward(timedelta(days=1))
    await bring_ca(desk, AuthorityState.COMPROMISED)
    assert (await judged(desk, pem, days=0.5)).good
    assert (await judged(desk, pem, days=1.5)).standing is Standing.CA_NOT_GOOD


async def test_a_ca_whose_files_are_gone_is_still_known_by_its_record(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    authority = desk.context.authority
    others = tuple(one for one in authority.issuers if one.domain != "prod")
    desk.context.in_force.replace(authority=replace(authority, issuers=others))
    assert (await judged(desk, pem, days=0.5)).good


@pytest.mark.parametrize(
    "text", ["", "nothing", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
async def test_what_is_no_certificate_is_bad_input(desk: Desk, text: str) -> None:
    with pytest.raises(BadInputError):
        await judged(desk, text)


async def test_a_changed_octet_is_found(desk: Desk) -> None:
    pem = (await enrolled(desk)).certificate
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    place = der.index(b"acme")
    changed = der[:place] + b"acne" + der[place + 4 :]
    assert (await judged(desk, pem_of(changed))).standing in {Standing.FORGED, Standing.OTHER_FLEET}
