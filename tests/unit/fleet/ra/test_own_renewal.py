"""Certificates of our own are renewed in time: a new key each, both files at once, the old one ends later."""

import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from shutil import copytree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from device_agent.wire.identity import serial_hex
from fleet.errors import FleetError, UnreachableError
from fleet.home import Home, KeyPairFiles
from fleet.model import CertificateState, Purpose, RevocationReason, Role
from fleet.ports import Transaction
from fleet.ra.issue_own import OwnCertificate
from fleet.ra.own import own_renewal
from fleet.ra.own.own_pairs import own_pairs
from fleet.ra.own.own_renewal import OVERLAP, RETRY, look_after_own, renew_due, renew_own
from fleet.ra.people.operators import add_operator, remove_operator
from fleet.store.audit import AuditQuery, search_newest
from fleet.store.certificates import (
    CertificateQuery,
    end_certificate,
    list_certificates,
    load_certificate,
)
from tests.desk import NOON, Desk, at_desk
from tests.homes import FleetHome, authority_of, make_home

YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_home(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
def fleet_home(made: FleetHome, tmp_path: Path) -> FleetHome:
    home = Home(copytree(made.home.root, tmp_path / "home"))
    return FleetHome(home=home, authority=authority_of(home), made_at=made.made_at)


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path) as desk:
        desk.clock.now = fleet_home.made_at
        yield desk


def leaf(files: KeyPairFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def serial_of(files: KeyPairFiles) -> str:
    return serial_hex(leaf(files).serial_number)


def all_serials(desk: Desk) -> dict[Path, str]:
    return {pair.files.certificate: serial_of(pair.files) for pair in own_pairs(desk.context)}


async def state_of(desk: Desk, serial: str) -> CertificateState:
    record = await desk.context.store.read(load_certificate, serial)
    assert record is not None
    return record.state


async def test_nothing_is_renewed_before_two_thirds_of_its_life(desk: Desk) -> None:
    before = all_serials(desk)
    desk.clock.forward(YEAR * 0.66)

    await renew_due(desk.context)

    assert all_serials(desk) == before


async def test_everything_of_a_years_life_is_renewed_by_three_quarters_of_it(desk: Desk) -> None:
    before = all_serials(desk)
    desk.clock.forward(YEAR * 0.76)

    await renew_due(desk.context)

    after = all_serials(desk)
    kept = {path for path, serial in before.items() if after[path] == serial}
    assert kept == {desk.context.home.public_claim(domain).certificate for domain in ("prod", "lab")}


async def test_renewals_are_spread_over_a_twelfth_of_a_year(desk: Desk) -> None:
    before = all_serials(desk)
    desk.clock.forward(YEAR * (2 / 3 + 1 / 24))

    await renew_due(desk.context)

    after = all_serials(desk)
    renewed = [path for path in before if before[path] != after[path]]
    assert 0 < len(renewed) < len(before)


async def test_each_renewal_has_a_new_key_that_fits_and_the_same_names(desk: Desk) -> None:
    server = desk.context.home.server
    before = leaf(server)
    desk.clock.forward(YEAR * 0.8)

    await renew_due(desk.context)

    after = leaf(server)
    key = load_pem_private_key(server.key.read_bytes(), password=None)
    assert key.public_key() == after.public_key() != before.public_key()
    assert after.not_valid_after_utc > before.not_valid_after_utc
    names = [
        one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for one in (before, after)
    ]
    assert set(names[0]) == set(names[1])
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(server.certificate, server.key)


async def test_the_one_before_is_superseded_an_hour_later_and_not_sooner(desk: Desk) -> None:
    old = serial_of(desk.context.home.service)
    desk.clock.forward(YEAR * 0.8)
    await renew_due(desk.context)
    new = serial_of(desk.context.home.service)

    await renew_due(desk.context)
    assert await state_of(desk, old) is CertificateState.ACTIVE
    assert {old, new} <= desk.broker.listed.keys()

    desk.clock.forward(OVERLAP)
    await renew_due(desk.context)
    assert await state_of(desk, old) is CertificateState.SUPERSEDED
    assert await state_of(desk, new) is CertificateState.ACTIVE
    assert old not in desk.broker.listed


async def test_responders_and_time_keys_answer_with_their_new_certificates_at_once(desk: Desk) -> None:
    before = {one.certificate.serial_number for one in desk.context.authority.responders}
    time_before = desk.context.authority.time_signer("prod").certificate_pem
    desk.clock.forward(YEAR * 0.8)

    await renew_due(desk.context)

    authority = desk.context.authority
    assert before.isdisjoint({one.certificate.serial_number for one in authority.responders})
    assert authority.time_signer("prod").certificate_pem != time_before
    assert authority.time_signer("prod").sign(b"now")
    authority.unlock()


async def test_a_new_canary_is_on_the_brokers_list_before_it_is_used(desk: Desk) -> None:
    desk.clock.forward(YEAR * 0.8)

    await renew_due(desk.context)

    number = leaf(desk.context.home.canary).serial_number
    lists = [x509.load_der_x509_crl(der) for der in desk.broker.crls]
    assert any(crl.get_revoked_certificate_by_serial_number(number) for crl in lists)
    assert await state_of(desk, serial_hex(number)) is CertificateState.REVOKED


async def test_an_operators_files_in_the_home_are_renewed_and_copies_of_them_stay_good(desk: Desk) -> None:
    files = desk.context.home.operator("admin")
    old = serial_of(KeyPairFiles(certificate=files.certificate, key=files.key))
    p12, password = files.p12.read_bytes(), files.p12_password.read_bytes()
    desk.clock.forward(YEAR * 0.8)

    await renew_due(desk.context)
    desk.clock.forward(OVERLAP)
    await renew_due(desk.context)

    assert serial_of(KeyPairFiles(certificate=files.certificate, key=files.key)) != old
    assert files.p12.read_bytes() != p12
    assert files.p12_password.read_bytes() != password
    assert await state_of(desk, old) is CertificateState.ACTIVE


async def test_the_files_of_an_operator_who_was_removed_are_left_alone(desk: Desk) -> None:
    files = desk.context.home.operator("admin")
    await add_another(desk)
    await remove_operator(desk.context, "admin", actor="operator:ada")
    before = files.certificate.read_bytes()
    desk.clock.forward(YEAR * 0.8)

    await renew_due(desk.context)

    assert files.certificate.read_bytes() == before


async def add_another(desk: Desk) -> None:
    await add_operator(desk.context, "ada", role=Role.SECURITY, actor="operator:local")


async def test_a_server_certificate_that_is_on_record_as_revoked_is_replaced_at_once(desk: Desk) -> None:
    old = serial_of(desk.context.home.server)
    await desk.context.store.write(revoke_on_record, old)

    await renew_due(desk.context)

    assert serial_of(desk.context.home.server) != old


async def revoke_on_record(tx: Transaction, serial: str) -> None:
    reason = RevocationReason.KEY_COMPROMISE
    await end_certificate(tx, serial, state=CertificateState.REVOKED, reason=reason, at=NOON)


async def test_another_host_in_the_configuration_gets_into_the_certificate(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    text = fleet_home.home.config.read_text().replace("fleet.example.org", "new.example.org")
    async with at_desk(fleet_home, tmp_path, toml=text) as desk:
        desk.clock.now = fleet_home.made_at

        await renew_due(desk.context)

        found = leaf(desk.context.home.server).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = found.value.get_values_for_type(x509.DNSName)
        assert {"new.example.org", "fleet.example.org"} <= set(names)


async def test_what_went_wrong_after_the_signature_is_tried_again_an_hour_later_not_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise FleetError("the disk is full")

    before = all_serials(desk)
    desk.clock.forward(YEAR * 0.8)
    with monkeypatch.context() as patch:
        patch.setattr(own_renewal, "switch", full)
        await renew_due(desk.context)
    assert all_serials(desk) == before
    issued = await count(desk, Purpose.SERVER)

    await renew_due(desk.context)
    assert all_serials(desk) == before
    assert await count(desk, Purpose.SERVER) == issued

    desk.clock.forward(RETRY)
    await renew_due(desk.context)
    assert serial_of(desk.context.home.server) != before[desk.context.home.server.certificate]


async def test_what_was_signed_and_never_came_into_use_is_superseded_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    issue = own_renewal.issue_own

    async def issue_and_die(*arguments: object, **options: object) -> OwnCertificate:
        own = await issue(*arguments, **options)  # type: ignore[arg-type]  # passed on as they came
        lost.append(own.issued.serial)
        raise UnreachableError("killed here")

    desk.clock.forward(YEAR * 0.8)
    with monkeypatch.context() as patch:
        patch.setattr(own_renewal, "issue_own", issue_and_die)
        await renew_due(desk.context)
    for _ in range(3):
        desk.clock.forward(OVERLAP)
        await renew_due(desk.context)

    ends = [await state_of(desk, serial) for serial in lost]
    assert CertificateState.SUPERSEDED in ends
    assert CertificateState.VOID not in ends


async def test_all_who_hold_the_certificates_are_told_and_told_again_until_they_read_them(desk: Desk) -> None:
    class Slow:
        told = 0

        async def reload_tls(self) -> None:
            self.told += 1
            if self.told < 3:
                raise UnreachableError("not now")

    slow = Slow()
    desk.context.tls_users.add(slow)

    with pytest.raises(FleetError):
        await renew_own(desk.context, frozenset({Purpose.SERVER}))
    await look_after_own(desk.context)
    assert desk.context.tls_users.is_behind
    await look_after_own(desk.context)
    await look_after_own(desk.context)

    assert slow.told == 3
    assert not desk.context.tls_users.is_behind


async def test_renewing_now_takes_exactly_the_purposes_that_are_named(desk: Desk) -> None:
    before = all_serials(desk)

    await renew_own(desk.context, frozenset({Purpose.SERVER, Purpose.SERVICE}))

    after = all_serials(desk)
    home = desk.context.home
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {home.server.certificate, home.service.certificate, home.canary.certificate}


async def test_intent_result_and_end_stand_on_the_audit_trail(desk: Desk) -> None:
    server = desk.context.home.server
    old = serial_of(server)
    await renew_own(desk.context, frozenset({Purpose.SERVER}))
    desk.clock.forward(OVERLAP)
    await renew_due(desk.context)

    entries = await desk.context.store.read(search_newest, AuditQuery(limit=100))
    told = [one.entry.action for one in entries if one.entry.serial in {old, serial_of(server)}]
    assert told[-3:] == ["certificate.intended", "certificate.issued", "certificate.superseded"]


async def count(desk: Desk, purpose: Purpose) -> int:
    found = await desk.context.store.read(list_certificates, CertificateQuery(purpose=purpose, limit=1000))
    return len(found)
