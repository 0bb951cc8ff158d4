"""Revocation lists: what was taken back, in order, under the CA's signature, and nothing else."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.ca.crl import Scope, make_crl, read_crl, serials_missing
from fleet.ca.issuer import Issuer
from fleet.ca.signers import KeySigner, make_key
from fleet.core.revocation import encode_entry
from fleet.errors import BadInputError, FleetError
from fleet.model import Purpose, RevocationReason
from tests.homes import FleetHome

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
PLACES = ("http://a.example/crl/1.crl", "http://b.example/crl/1.crl")
numbers = st.integers(min_value=0x40 << 120, max_value=(0x80 << 120) - 1)


@pytest.fixture
def issuer(fleet_home: FleetHome) -> Issuer:
    return fleet_home.authority.issuer(Purpose.DEVICE, "prod")


def entry(number: int, reason: RevocationReason = RevocationReason.KEY_COMPROMISE) -> bytes:
    return encode_entry(f"{number:032x}", NOW, reason)


def test_an_empty_list_is_a_list(issuer: Issuer) -> None:
    crl = read_crl(make_crl(issuer, (), number=7, this_update=NOW, next_update=LATER), issuer.certificate)
    assert (crl.number, crl.this_update, crl.next_update, crl.serials) == (7, NOW, LATER, frozenset())


@settings(max_examples=30)
@given(st.sets(numbers, max_size=300), st.integers(min_value=0, max_value=2**63))
def test_every_entry_is_on_the_list_and_no_other(
    fleet_home: FleetHome, serials: set[int], number: int
) -> None:
    issuer = fleet_home.authority.issuer(Purpose.DEVICE, "prod")
    encoded = make_crl(
        issuer, [entry(one) for one in sorted(serials)], number=number, this_update=NOW, next_update=LATER
    )
    crl = read_crl(encoded, issuer.certificate)
    assert crl.serials == {f"{one:032x}" for one in serials}
    assert crl.number == number


def test_a_reason_is_read_back_and_unspecified_is_left_out(issuer: Issuer) -> None:
    entries = [entry(index + (0x40 << 120), reason) for index, reason in enumerate(RevocationReason)]
    encoded = make_crl(issuer, entries, number=1, this_update=NOW, next_update=LATER)
    reasons = [
        found.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        for found in x509.load_der_x509_crl(encoded)
        if len(found.extensions)
    ]
    assert reasons == [
        reason.value for reason in RevocationReason if reason is not RevocationReason.UNSPECIFIED
    ]


def test_the_list_names_the_key_that_signed_it(issuer: Issuer) -> None:
    encoded = make_crl(issuer, (), number=1, this_update=NOW, next_update=LATER)
    extensions = x509.load_der_x509_crl(encoded).extensions
    found = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert found.value.key_identifier == bytes.fromhex(issuer.issuer_id)
    assert not any(extension.critical for extension in extensions)


def parsed(encoded: bytes) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(encoded)


@settings(max_examples=20)
@given(
    st.sets(numbers, max_size=40),
    st.builds(
        Scope,
        leaves_only=st.booleans(),
        places=st.lists(st.sampled_from(PLACES), unique=True).map(tuple),
        freshest=st.sampled_from(["", "http://a.example/crl/1-delta.crl"]),
        base_number=st.none() | st.integers(min_value=0, max_value=2**62),
    ),
)
def test_every_scope_is_read_back_by_another_reader(
    fleet_home: FleetHome, serials: set[int], scope: Scope
) -> None:
    issuer = fleet_home.authority.issuer(Purpose.DEVICE, "prod")
    entries = [b"".join(entry(one) for one in serials)]
    crl = parsed(make_crl(issuer, entries, number=7, this_update=NOW, next_update=LATER, scope=scope))
    extensions = {one.oid: one for one in crl.extensions}
    point = extensions.get(x509.IssuingDistributionPoint.oid)
    delta = extensions.get(x509.DeltaCRLIndicator.oid)

    assert {one.serial_number for one in crl} == serials
    assert (point is not None) is (scope.leaves_only or bool(scope.places))
    assert (x509.FreshestCRL.oid in extensions) is bool(scope.freshest)
    assert {one.oid for one in extensions.values() if one.critical} == {
        one.oid for one in (point, delta) if one is not None
    }
    if point is not None:
        assert isinstance(point.value, x509.IssuingDistributionPoint)
        assert point.value.only_contains_user_certs is scope.leaves_only
        assert [name.value for name in point.value.full_name or ()] == list(scope.places)
    if delta is not None:
        assert isinstance(delta.value, x509.DeltaCRLIndicator)
        assert delta.value.crl_number == scope.base_number


def test_a_plain_list_has_no_extension_that_a_verifier_could_fail_to_know(issuer: Issuer) -> None:
    crl = parsed(make_crl(issuer, (), number=1, this_update=NOW, next_update=LATER))
    assert {one.oid for one in crl.extensions} == {x509.AuthorityKeyIdentifier.oid, x509.CRLNumber.oid}


def test_what_a_list_does_not_name_is_found(issuer: Issuer) -> None:
    there, missing = f"{0x41 << 120:032x}", f"{0x42 << 120:032x}"
    encoded = make_crl(issuer, [entry(0x41 << 120)], number=1, this_update=NOW, next_update=LATER)
    assert serials_missing(encoded, [there, missing], issuer=issuer.certificate) == (missing,)


def test_what_a_forged_list_names_counts_for_nothing(issuer: Issuer, fleet_home: FleetHome) -> None:
    lab = fleet_home.authority.issuer(Purpose.DEVICE, "lab")
    encoded = make_crl(lab, [entry(0x41 << 120)], number=1, this_update=NOW, next_update=LATER)
    with pytest.raises(BadInputError, match="not one of"):
        serials_missing(encoded, [f"{0x41 << 120:032x}"], issuer=issuer.certificate)
    with pytest.raises(BadInputError, match="cannot be read"):
        serials_missing(b"junk", [], issuer=issuer.certificate)


def test_a_list_of_another_ca_is_not_believed(issuer: Issuer, fleet_home: FleetHome) -> None:
    lab = fleet_home.authority.issuer(Purpose.DEVICE, "lab")
    encoded = make_crl(lab, (), number=1, this_update=NOW, next_update=LATER)
    with pytest.raises(BadInputError, match="not one of"):
        read_crl(encoded, issuer.certificate)


def test_a_signer_that_computes_wrongly_makes_no_list(issuer: Issuer) -> None:
    with pytest.raises(FleetError, match="does not verify"):
        make_crl(
            replace(issuer, signer=KeySigner(make_key())), (), number=1, this_update=NOW, next_update=LATER
        )


@given(
    st.binary(max_size=300), st.integers(min_value=0, max_value=200), st.integers(min_value=0, max_value=7)
)
def test_a_damaged_list_is_refused_and_never_breaks_the_reader(
    fleet_home: FleetHome, junk: bytes, position: int, bit: int
) -> None:
    issuer = fleet_home.authority.issuer(Purpose.DEVICE, "prod")
    good = make_crl(issuer, (), number=1, this_update=NOW, next_update=LATER)
    damaged = good[:position] + bytes((good[position] ^ 1 << bit,)) + good[position + 1 :]
    for encoded in (junk, good + junk if junk else good[:-1]):
        with pytest.raises(BadInputError):
            read_crl(encoded, issuer.certificate)
    # One bit is not signed: how many bits of the signature's last octet count. The list says the same then.
    with suppress(BadInputError):
        assert read_crl(damaged, issuer.certificate) == read_crl(good, issuer.certificate)
