"""Whom a device believes: which trust bundles are taken, and which never."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.certificates import anchor_id
from device_agent.core.trust import Doubt, Holding, NewTrust, follow, judge
from device_agent.errors import UntrustedBundleError
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.trust import TrustBundle
from tests.pki import Authority, pem_of, utc_now
from tests.rolled import back_link, bundle, der, link

NOW = utc_now()
FIRST, SECOND, THIRD, STRANGER = (
    Authority.root(f"acme prod {name}") for name in ("root", "root 2", "root 3", "x")
)
ONE_TWO, TWO_THREE = link(FIRST, SECOND), link(SECOND, THIRD)
BOTH = bundle(FIRST, SECOND, links=[ONE_TWO])


def holding(*anchors: Authority, version: int = 0, digest: str = "") -> Holding:
    held = tuple(der(anchor.certificate) for anchor in anchors)
    return Holding(fleet="acme", realm="prod", anchors=held, version=version, digest=digest)


def taken(wanted: TrustBundle, held: Holding) -> NewTrust:
    new = judge(wanted, held, now=NOW)
    assert new is not None
    return new


def doubt(wanted: TrustBundle, held: Holding) -> str:
    with pytest.raises(UntrustedBundleError) as caught:
        judge(wanted, held, now=NOW)
    return caught.value.word


def test_a_bundle_is_taken_when_a_held_root_has_vouched_for_the_one_that_signed() -> None:
    new = taken(BOTH, holding(FIRST))
    assert new.version == 1
    assert new.anchors == (der(FIRST.certificate), der(SECOND.certificate))
    assert new.dropped == ()


def test_a_bundle_tells_which_held_anchors_it_gives_up() -> None:
    new = taken(bundle(SECOND, version=2), holding(FIRST, SECOND, version=1))
    assert new.dropped == (der(FIRST.certificate),)


def test_the_bundle_that_is_held_is_nothing_new() -> None:
    held = taken(BOTH, holding(FIRST))
    assert judge(BOTH, holding(FIRST, SECOND, version=1, digest=held.digest), now=NOW) is None


def test_a_device_that_slept_through_two_rolls_follows_both_links() -> None:
    newest = bundle(THIRD, version=4, links=[TWO_THREE, ONE_TWO])
    assert taken(newest, holding(FIRST)).anchors == (der(THIRD.certificate),)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_bundle_of_a_lower_version_or_another_of_the_same_is_refused(version: int) -> None:
    held = holding(FIRST, SECOND, version=3, digest="0" * 64)
    assert doubt(bundle(FIRST, SECOND, version=version), held) == Doubt.ROLLED_BACK


def test_a_bundle_that_another_signed_in_the_name_of_a_held_root_is_forged() -> None:
    assert doubt(bundle(FIRST, SECOND, signer=STRANGER), holding(FIRST, SECOND)) == Doubt.FORGED


@pytest.mark.parametrize(
    "change",
    [
        {"version": 7},
        {"signature": b"\x00" * 70},
        {"signature": BOTH.signature[:-1] + b"\x00"},
        {"anchors": pem_of(SECOND.certificate).decode()},
        {"anchors": "".join(pem_of(one.certificate).decode() for one in (FIRST, STRANGER, SECOND))},
    ],
    ids=["version", "junk", "torn", "one anchor less", "one anchor more"],
)
def test_a_changed_bundle_is_forged(change: dict[str, object]) -> None:
    assert doubt(replace(BOTH, **change), holding(FIRST)) == Doubt.FORGED  # type: ignore[arg-type] # by name


def test_a_bundle_of_another_fleet_is_forged() -> None:
    assert doubt(bundle(FIRST, SECOND, fleet="other"), holding(FIRST, SECOND)) == Doubt.FORGED


def test_a_bundle_that_no_held_root_has_vouched_for_is_chained_from_nothing() -> None:
    assert doubt(bundle(STRANGER), holding(FIRST)) == Doubt.UNCHAINED
    assert doubt(bundle(FIRST, STRANGER), holding(FIRST)) == Doubt.UNCHAINED
    assert doubt(bundle(FIRST, SECOND), holding(FIRST)) == Doubt.UNCHAINED


def test_a_link_that_a_stranger_signed_leads_nowhere() -> None:
    false_first = Authority.root("acme prod root")
    forged = bundle(FIRST, STRANGER, links=[link(false_first, STRANGER)])
    assert doubt(forged, holding(FIRST)) == Doubt.UNCHAINED


def test_a_link_for_a_name_is_none_for_another_key_of_that_name() -> None:
    namesake = Authority.root("acme prod root 2")
    assert doubt(bundle(namesake, links=[ONE_TWO]), holding(FIRST)) == Doubt.UNCHAINED


def test_a_leaf_that_was_signed_by_a_held_root_is_no_link() -> None:
    leaf = FIRST.leaf("acme prod root 2", key=SECOND.key).certificate
    assert doubt(bundle(SECOND, links=[leaf]), holding(FIRST)) == Doubt.UNCHAINED


def test_a_root_that_was_given_up_is_not_believed_again_by_the_link_back() -> None:
    """Both roots sign for each other; a stolen old key must not lead devices back to itself."""
    back = back_link(FIRST, SECOND)
    assert doubt(bundle(FIRST, version=9, links=[back]), holding(SECOND, version=2)) == Doubt.UNCHAINED
    assert follow([der(back)], [der(SECOND.certificate)], now=NOW) == ()


def test_an_expired_link_leads_nowhere() -> None:
    later = NOW + timedelta(days=400)
    assert follow([der(ONE_TWO)], [der(FIRST.certificate)], now=later) == ()


def test_a_bundle_whose_anchors_are_no_roots_is_refused() -> None:
    below = SECOND.issuing("acme prod devices")
    assert doubt(bundle(below, FIRST), holding(FIRST)) == Doubt.UNREADABLE


def test_a_bundle_of_another_realm_is_refused() -> None:
    assert doubt(bundle(FIRST, realm="lab"), holding(FIRST)) == Doubt.OTHER_REALM


@pytest.mark.parametrize("member", ["anchors", "links"])
@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem_of(FIRST.certificate).decode() * 9,
    ],
    ids=["no certificate", "a key", "nine"],
)
def test_a_bundle_that_cannot_be_read_is_refused(member: str, text: str) -> None:
    wrong = replace(BOTH, **{member: text})  # type: ignore[arg-type] # by name
    assert doubt(wrong, holding(FIRST)) == Doubt.UNREADABLE


def test_a_bundle_reads_back_from_its_file_as_it_was_written() -> None:
    assert TrustBundle.parse(BOTH.encode()) == BOTH


@given(body=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_anything_else_is_no_bundle(body: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        TrustBundle.parse(body)


@given(at=st.integers(0, len(BOTH.encode()) - 1), octet=st.integers(1, 255))
def test_a_bundle_with_one_changed_octet_is_refused_or_the_same(at: int, octet: int) -> None:
    text = bytearray(BOTH.encode())
    text[at] ^= octet
    try:
        found = judge(TrustBundle.parse(bytes(text)), holding(FIRST), now=NOW)
    except (MalformedMessageError, UntrustedBundleError):
        return
    assert found is not None
    assert [anchor_id(each) for each in found.anchors] == [
        anchor_id(der(one.certificate)) for one in (FIRST, SECOND)
    ]
