"""The authorities of a home: who signs what, and what is told when a file is not there or not right."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from device_agent.wire.secret import Secret
from fleet.ca.crl import read_crl
from fleet.ca.hierarchy import Authority
from fleet.ca.keyring import KeyRing
from fleet.ca.loading import load_authority, records_of_files
from fleet.core.authority import AuthorityState
from fleet.errors import BadInputError, FleetError, NotFoundError
from fleet.home import Home
from fleet.model import Purpose
from tests.homes import FleetHome, authority_of, key_ring, utc_now

FLEET_PURPOSES = (Purpose.SERVER, Purpose.SERVICE, Purpose.OPERATOR, Purpose.STATION)


def with_state(fleet_home: FleetHome, folder: str, state: AuthorityState) -> Authority:
    """Return the authorities of a home, with one of them in another state."""
    home = fleet_home.home
    records = tuple(
        replace(record, state=state) if record.folder == folder else record
        for record in fleet_home.authority.records
    )
    return load_authority(home, fleet="acme", keys=key_ring(home), records=records)


@pytest.fixture
def copied(fleet_home: FleetHome, tmp_path: Path) -> Home:
    shutil.copytree(fleet_home.home.root, tmp_path / "home")
    return Home(tmp_path / "home")


def test_each_domain_has_a_root_and_an_issuing_ca_of_its_own(fleet_home: FleetHome) -> None:
    authority = fleet_home.authority
    assert authority.domains == ("lab", "prod")
    prod, lab = (authority.issuer(Purpose.DEVICE, domain) for domain in ("prod", "lab"))
    assert prod.anchor == authority.root("prod").anchor != lab.anchor == authority.root("lab").anchor
    assert authority.issuer_by_id(prod.issuer_id) is prod


def test_claims_hang_on_a_root_apart_and_the_rest_on_the_fleets(fleet_home: FleetHome) -> None:
    authority = fleet_home.authority
    assert authority.issuer(Purpose.CLAIM).anchor == authority.root("bootstrap").anchor
    anchors = {authority.issuer(purpose).anchor for purpose in FLEET_PURPOSES}
    assert anchors == {authority.root("fleet").anchor}
    assert len({authority.issuer(purpose).issuer_id for purpose in FLEET_PURPOSES}) == len(FLEET_PURPOSES)


def test_each_issuing_ca_is_signed_by_its_root_and_can_make_no_other_ca(fleet_home: FleetHome) -> None:
    roots = {root.anchor: root.certificate for root in fleet_home.authority.roots}
    for issuer in fleet_home.authority.issuers:
        issuer.certificate.verify_directly_issued_by(roots[issuer.anchor])
        constraints = issuer.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.value.ca, constraints.value.path_length, constraints.critical) == (True, 0, True)


def test_each_root_has_a_list_that_revokes_nothing(fleet_home: FleetHome) -> None:
    for root in fleet_home.authority.roots:
        assert root.crl is not None
        assert read_crl(root.crl, root.certificate).serials == frozenset()


def test_a_station_is_known_by_the_name_of_its_issuing_ca(fleet_home: FleetHome) -> None:
    names = {one.purpose: one.certificate.subject.rfc4514_string() for one in fleet_home.authority.issuers}
    assert names[Purpose.STATION] == "CN=acme station issuing CA 1,O=acme"


def test_the_time_key_of_a_domain_signs_under_its_root(fleet_home: FleetHome) -> None:
    signer = fleet_home.authority.time_signer("prod")
    certificate, issuer = x509.load_pem_x509_certificates(signer.certificate_pem.encode())
    certificate.verify_directly_issued_by(issuer)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert [oid.dotted_string for oid in usage.value] == ["1.3.6.1.5.5.7.3.8"]
    assert usage.critical
    assert signer.sign(b"message") != signer.sign(b"message")


def test_status_urls_lead_to_every_certificate_and_no_other(fleet_home: FleetHome) -> None:
    authority = fleet_home.authority
    for one in (*authority.roots, *authority.issuers):
        assert authority.certificate(one.issuer_id) == one.certificate
    with pytest.raises(NotFoundError):
        authority.certificate("00" * 20)


def test_what_is_not_there_is_not_found(fleet_home: FleetHome) -> None:
    authority = fleet_home.authority
    for ask in (
        lambda: authority.issuer(Purpose.DEVICE, "nowhere"),
        lambda: authority.issuer(Purpose.DEVICE),
        lambda: authority.root("nowhere"),
        lambda: authority.link("nowhere", ()),
        lambda: authority.time_signer("nowhere"),
        lambda: authority.issuer_by_id("00" * 20),
    ):
        with pytest.raises(NotFoundError) as caught:
            ask()
        assert caught.value.hint


def test_no_link_is_needed_where_no_anchor_was_replaced(fleet_home: FleetHome) -> None:
    assert fleet_home.authority.link("prod", ()) is None


def test_all_keys_open_under_the_issuing_passphrase_and_no_root_does(fleet_home: FleetHome) -> None:
    authority_of(fleet_home.home).unlock()
    issuing = authority_of(fleet_home.home).issuers[0].signer
    assert issuing.sign(b"message")


def test_a_wrong_issuing_passphrase_shows_when_the_keys_are_unlocked(fleet_home: FleetHome) -> None:
    authority = load_authority(
        fleet_home.home,
        fleet="acme",
        keys=KeyRing(Secret("wrong")),
        records=fleet_home.authority.records,
    )
    with pytest.raises(BadInputError, match="wrong passphrase"):
        authority.unlock()


def test_several_issuing_cas_of_a_domain_sign_in_the_order_of_their_numbers(copied: Home) -> None:
    for number in (10, 2):
        shutil.copytree(copied.ca / "prod" / "device-1", copied.ca / "prod" / f"device-{number}")
    folders = [record.folder for record in records_of_files(copied, at=utc_now())]
    assert folders[-4:] == ["prod", "prod/device-1", "prod/device-2", "prod/device-10"]
    assert len(authority_of(copied).active(Purpose.DEVICE, "prod")) == 3


@pytest.mark.parametrize(
    ("state", "signs", "admitted", "listed"),
    [
        (AuthorityState.STANDBY, False, False, False),
        (AuthorityState.ACTIVE, True, True, True),
        (AuthorityState.RETIRING, False, True, True),
        (AuthorityState.RETIRED, False, False, True),
        (AuthorityState.COMPROMISED, False, False, True),
    ],
)
def test_what_an_issuing_ca_does_follows_from_its_state(
    fleet_home: FleetHome, *, state: AuthorityState, signs: bool, admitted: bool, listed: bool
) -> None:
    authority = with_state(fleet_home, "prod/device-1", state)
    (one,) = [issuer for issuer in authority.issuers if issuer.domain == "prod"]
    assert one in authority.issuers
    assert (one in authority.active(Purpose.DEVICE, "prod")) is signs
    assert (one in authority.admitted) is admitted
    assert (one in authority.listed) is listed
    assert authority.issuer_by_id(one.issuer_id) is one


def test_a_root_that_was_given_up_is_trusted_by_nobody(fleet_home: FleetHome) -> None:
    authority = with_state(fleet_home, "prod", AuthorityState.RETIRED)
    assert authority.domains == ("lab",)
    assert [root.realm for root in authority.anchors] == ["bootstrap", "fleet", "lab"]
    with pytest.raises(NotFoundError):
        authority.trust_pem("prod")


def test_a_ca_that_waits_for_its_certificate_is_not_read(copied: Home) -> None:
    fleet_home = FleetHome(home=copied, authority=authority_of(copied), made_at=utc_now())
    (copied.ca / "prod" / "device-1" / "ca.crt").unlink()
    authority = with_state(fleet_home, "prod/device-1", AuthorityState.REQUESTED)
    assert [issuer.domain for issuer in authority.issuers if issuer.domain] == ["lab"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda ca: (ca / "prod" / "ca.crt").unlink(),
        lambda ca: (ca / "prod" / "ca.crl").unlink(),
        lambda ca: (ca / "prod" / "device-1" / "ca.crt").write_text("junk"),
        lambda ca: (ca / "prod" / "device-1" / "ocsp.crt").unlink(),
        lambda ca: (ca / "prod" / "device-1").rename(ca / "prod" / "something"),
        lambda ca: (ca / "prod" / "device-1").rename(ca / "prod" / "gadget-1"),
    ],
)
def test_a_damaged_home_is_told_with_the_file_and_a_way_out(copied: Home, damage: object) -> None:
    assert callable(damage)
    damage(copied.ca)
    with pytest.raises(FleetError) as caught:
        authority_of(copied)
    assert "prod" in str(caught.value)
    assert caught.value.hint


def test_a_key_file_that_was_swapped_is_noticed(copied: Home) -> None:
    here, there = copied.ca / "prod" / "device-1" / "ca.key", copied.ca / "lab" / "device-1" / "ca.key"
    here.write_bytes(there.read_bytes())
    with pytest.raises(BadInputError, match="another key"):
        authority_of(copied).unlock()
