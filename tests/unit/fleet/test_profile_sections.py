"""Profiles in fleet.toml: what a table does not say is its domain's, what it must not say has its line."""

from datetime import timedelta

import pytest

from fleet.config import parse
from fleet.core.goodkey import CLASSIC, POST_QUANTUM, KeyType
from fleet.core.profile import Profile, Usage
from fleet.errors import BadInputError
from fleet.model import Assurance

PROD = '[fleet]\nname = "acme"\n[domains.prod]\n'
GATEWAY = PROD + "[domains.prod.profiles.gateway]\n"
QUANTUM = '[fleet]\nname = "acme"\n[domains.lab]\nca_key = "ml-dsa-44"\n'


def profiles(text: str) -> dict[str, Profile]:
    return {profile.name: profile for profile in parse(text).domains[0].profiles}


def test_a_domain_without_tables_has_one_profile() -> None:
    (name, profile), *others = profiles(PROD).items()

    assert name == "device"
    assert not others
    assert profile.key_types == CLASSIC


def test_a_profile_says_only_where_it_differs_from_its_domain() -> None:
    text = (
        PROD + 'lifetime_days = 30\nsame_key = true\n[domains.prod.profiles.gateway]\nkey_types = ["p384"]\n'
    )
    found = profiles(text)

    assert found["gateway"].lifetime == found["device"].lifetime == timedelta(days=30)
    assert found["gateway"].same_key
    assert (found["gateway"].key_types, found["device"].key_types) == (frozenset({KeyType.P384}), CLASSIC)


def test_every_setting_of_a_profile_is_read() -> None:
    found = profiles(
        GATEWAY + 'key_types = ["rsa", "ed25519"]\nrsa_bits = 3072\nlifetime_days = 7\nbackdate_minutes = 0\n'
        'usages = ["clientAuth", "serverAuth"]\nnames = ["{id}.gateways.example.org"]\nsame_key = true\n'
        'approval = true\nassurance = "manufacturer"\nby_label = true\nrenew_from = 0.5\nrenew_spread = 0\n'
    )["gateway"]

    assert (found.key_types, found.rsa_bits) == (frozenset({KeyType.RSA, KeyType.ED25519}), 3072)
    assert (found.lifetime, found.backdate) == (timedelta(days=7), timedelta(0))
    assert found.extended_key_usage == (Usage.CLIENT_AUTH, Usage.SERVER_AUTH)
    assert found.names == ("{id}.gateways.example.org",)
    assert found.same_key
    assert found.approval
    assert found.by_label
    assert found.assurance is Assurance.MANUFACTURER
    assert (found.renew_from, found.renew_spread) == (0.5, 0.0)


def test_a_post_quantum_domain_has_post_quantum_profiles() -> None:
    text = QUANTUM + '[domains.lab.profiles.strong]\nkey_types = ["ml-dsa-65"]\n'

    assert profiles(text)["device"].key_types == POST_QUANTUM
    assert all(profile.is_experimental for profile in profiles(text).values())
    assert not profiles(PROD)["device"].is_experimental


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GATEWAY + "lifetme_days = 7\n", 5, "unknown key 'lifetme_days' in [domains.prod.profiles.gateway]"),
        (GATEWAY + 'key_types = ["p521"]\n', 5, "key_types must be a list of some of p256"),
        (GATEWAY + "key_types = []\n", 5, "key_types must be a list"),
        (GATEWAY + 'key_types = "p256"\n', 5, "key_types must be a list"),
        (GATEWAY + 'key_types = ["p256", "p256"]\n', 5, "key_types must be a list"),
        (GATEWAY + 'key_types = ["p256", "ml-dsa-44"]\n', 5, "ml-dsa-44 is not for a domain"),
        (QUANTUM + 'key_types = ["p256"]\n', 5, "p256 is not for a domain"),
        (GATEWAY + "rsa_bits = 1024\n", 5, "rsa_bits must be an integer from 2048 to 4096"),
        (GATEWAY + "lifetime_days = 0\n", 5, "lifetime_days must be an integer from 1 to 3650"),
        (GATEWAY + "backdate_minutes = 2000\n", 5, "backdate_minutes must be an integer from 0 to 1440"),
        (GATEWAY + 'usages = ["serverAuth"]\n', 5, "a device's certificate is for clientAuth"),
        (GATEWAY + 'usages = ["clientAuth", "OCSPSigning"]\n', 5, "a device's certificate is for clientAuth"),
        (GATEWAY + 'names = "x"\n', 5, "names must be a list"),
        (GATEWAY + 'names = ["{id}.acme"]\n', 5, "in the fleet's own name space"),
        (GATEWAY + 'names = ["gw.example.org"]\n', 5, "must hold {id}"),
        (GATEWAY + 'names = ["{id}.{colour}.org"]\n', 5, "knows no {colour}"),
        (GATEWAY + 'names = ["*.{id}.example.org"]\n', 5, "is no host name"),
        (GATEWAY + 'names = ["{id}"]\n', 5, "is a single label"),
        (GATEWAY + 'assurance = "high"\n', 5, "assurance must be one of none, claim, code, approved"),
        (GATEWAY + "renew_from = 1.5\n", 5, "renew_from must be a number from 0.1 to 0.95"),
        (GATEWAY + "renew_from = true\n", 5, "renew_from must be a number"),
        (GATEWAY + "renew_from = 0.9\nrenew_spread = 0.2\n", 5, "some devices would renew after their end"),
        (GATEWAY + 'approval = "yes"\n', 5, "approval must be true or false"),
        (PROD + "[domains.prod.profiles.device]\n", 4, "the profile device is the domain's own"),
        (PROD + '[domains.prod.profiles."Gate way"]\n', 4, "profile name must be a DNS label"),
        (PROD + 'ca_key = "rsa-1"\n', 4, "ca_key must be one of p256"),
        (PROD + 'ca_key = "ed25519"\n', 4, "devices take no chain with an Ed25519 CA"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(text)

    assert str(caught.value).startswith(f"fleet.toml:{line}: ")
    assert words in str(caught.value)
    assert caught.value.hint
