"""Profiles: a template holds what the applicant may have, and nothing that a request wished for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core.goodkey import KeyType
from fleet.core.profile import (
    DEFAULT_PROFILES,
    ISSUING_PROFILE,
    OCSP_PROFILE,
    ROOT_PROFILE,
    TIME_PROFILE,
    Applicant,
    IssuerFacts,
    Profile,
    Usage,
    device_applicant,
    own_applicant,
    server_applicant,
)
from fleet.errors import BadInputError, RefusedError
from fleet.model import Purpose

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
FACTS = IssuerFacts(issuer_id="ab" * 20, not_after=datetime(2036, 1, 1, tzinfo=UTC), status_url="http://h:80")
DEVICE = device_applicant(Identity(domain="prod", device_id="d1"), fleet="acme")
PURPOSES_WITH_AN_ISSUING_CA = set(Purpose) - {Purpose.SIGNER, Purpose.AUTHORITY, Purpose.BACKEND}


def test_every_purpose_with_an_issuing_ca_has_a_profile_of_its_own() -> None:
    assert set(DEFAULT_PROFILES) == PURPOSES_WITH_AN_ISSUING_CA
    assert all(profile.purpose is purpose for purpose, profile in DEFAULT_PROFILES.items())


@pytest.mark.parametrize("profile", DEFAULT_PROFILES.values(), ids=lambda profile: profile.name)
def test_a_leaf_is_a_client_or_a_server_and_never_a_ca(profile: Profile) -> None:
    expected = Usage.SERVER_AUTH if profile.purpose is Purpose.SERVER else Usage.CLIENT_AUTH
    assert profile.extended_key_usage == (expected,)
    assert not profile.is_ca


def test_a_ca_is_valid_before_every_leaf_below_it_and_longer() -> None:
    longest = max(profile.lifetime for profile in (*DEFAULT_PROFILES.values(), OCSP_PROFILE, TIME_PROFILE))
    assert ROOT_PROFILE.lifetime > ISSUING_PROFILE.lifetime > longest
    assert ISSUING_PROFILE.backdate > timedelta(days=1)


def test_a_template_has_the_profiles_times_in_whole_seconds() -> None:
    profile = DEFAULT_PROFILES[Purpose.DEVICE]
    template = profile.template(DEVICE, KEY, now=NOW, issuer=FACTS)
    assert template.not_before == datetime(2026, 5, 1, 11, 0, 0, tzinfo=UTC)
    assert template.not_after == datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC) + timedelta(days=90)


def test_a_shorter_lifetime_may_be_asked_for_a_longer_one_not() -> None:
    profile = DEFAULT_PROFILES[Purpose.DEVICE]
    short = profile.template(DEVICE, KEY, now=NOW, issuer=FACTS, lifetime=timedelta(hours=1))
    long = profile.template(DEVICE, KEY, now=NOW, issuer=FACTS, lifetime=timedelta(days=900))
    assert short.not_after == NOW.replace(microsecond=0) + timedelta(hours=1)
    assert long.not_after == NOW.replace(microsecond=0) + profile.lifetime


def test_a_leaf_never_outlives_its_issuing_ca() -> None:
    soon = IssuerFacts(issuer_id="ab" * 20, not_after=NOW + timedelta(days=1), status_url="http://h:80")
    assert (
        DEFAULT_PROFILES[Purpose.DEVICE].template(DEVICE, KEY, now=NOW, issuer=soon).not_after
        == soon.not_after
    )


def test_an_expired_issuing_ca_gives_nothing() -> None:
    gone = IssuerFacts(issuer_id="ab" * 20, not_after=NOW - timedelta(seconds=1), status_url="http://h:80")
    with pytest.raises(BadInputError, match="expired"):
        DEFAULT_PROFILES[Purpose.DEVICE].template(DEVICE, KEY, now=NOW, issuer=gone)


def test_a_key_type_outside_of_the_profile_gives_no_template() -> None:
    profile = Profile(
        name="small", purpose=Purpose.DEVICE, lifetime=timedelta(days=1), key_types=frozenset({KeyType.P256})
    )
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    with pytest.raises(RefusedError) as caught:
        profile.template(DEVICE, key, now=NOW, issuer=FACTS)
    assert caught.value.code is ProblemCode.BAD_KEY


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_renewal_starts_between_two_thirds_and_three_quarters_of_the_lifetime(jitter: float) -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 11, tzinfo=UTC)  # 100 days
    renewal = DEFAULT_PROFILES[Purpose.DEVICE].renew_after(start, end, jitter)
    assert timedelta(days=66.6) < renewal - start <= timedelta(days=75)
    assert renewal.microsecond == 0


def test_a_device_is_named_by_its_id_and_its_label() -> None:
    applicant = device_applicant(Identity(domain="prod", device_id="Line_3"), fleet="acme")
    assert applicant.common_name == "Line_3"
    assert applicant.dns_names[0].startswith("h-")
    assert applicant.dns_names[0].endswith(".prod.acme")


@pytest.mark.parametrize(
    ("domain", "name"), [("", "admin.operator.acme"), ("prod", "admin.prod.operator.acme")]
)
def test_our_own_certificates_are_named_by_purpose(domain: str, name: str) -> None:
    applicant = own_applicant("admin", purpose=Purpose.OPERATOR, fleet="acme", domain=domain)
    assert applicant == Applicant(common_name="admin", dns_names=(name,))


def test_a_server_is_named_by_its_hosts_and_the_loopback_each_once() -> None:
    applicant = server_applicant(["Fleet.Example.org", "127.0.0.1", "2001:db8::1", "localhost"])
    assert applicant.common_name == "fleet.example.org"
    assert applicant.dns_names == ("fleet.example.org", "localhost")
    assert set(applicant.addresses) == {ip_address(one) for one in ("127.0.0.1", "2001:db8::1", "::1")}


def test_a_host_name_that_is_too_long_for_a_common_name_stands_in_the_alternative_names_alone() -> None:
    host = ".".join(["a" * 60, "b" * 60, "org"])
    applicant = server_applicant([host])
    assert applicant.common_name == "localhost"
    assert applicant.dns_names == (host, "localhost")


def test_status_addresses_are_plain_http_under_the_issuers_identifier() -> None:
    assert FACTS.crl_url("41" * 16) == f"http://h:80/crl/{'ab' * 20}.crl"
    assert replace(FACTS, partitions=4).crl_url("41" * 14 + "c000") == f"http://h:80/crl/{'ab' * 20}-7.crl"
    assert FACTS.certificate_url == f"http://h:80/ca/{'ab' * 20}.cer"
    assert FACTS.ocsp_url == "http://h:80/ocsp"
