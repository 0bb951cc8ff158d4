"""A time is believed for the nonce asked, from the domain's time key, within that key's life; no other is."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from device_agent.core.certificates import lifetime
from device_agent.core.signed_time import TimeAsked, require_signed
from device_agent.errors import UntrustedTimeError
from device_agent.wire.replies import Time
from tests.pki import Authority, Pki, pem_of, utc_now
from tests.time_keys import TimeKey, signed_time, time_key

NOW = utc_now()
NONCE = b"n" * 16


@cache
def pki() -> Pki:
    return Pki()


def asked(domain: str = "prod", *, nonce: bytes = NONCE) -> TimeAsked:
    root = pki().roots[domain].certificate.public_bytes(Encoding.DER)
    return TimeAsked(fleet="acme", domain=domain, nonce=nonce, anchors=(root,))


def told(key: TimeKey | None = None, *, now: datetime = NOW, domain: str = "prod") -> Time:
    return signed_time(key or prods(), message_id="t", domain=domain, nonce=NONCE, now=now)


@cache
def prods() -> TimeKey:
    return time_key(pki().devices["prod"], "acme prod device time 1")


def refused(reply: Time, question: TimeAsked | None = None) -> str:
    with pytest.raises(UntrustedTimeError) as caught:
        require_signed(reply, question or asked())
    return str(caught.value)


def test_a_time_of_the_domains_key_for_the_nonce_that_was_asked_is_believed() -> None:
    require_signed(told(), asked())


def test_a_fleet_whose_name_is_too_long_for_a_common_name_is_believed_without_it() -> None:
    require_signed(told(time_key(pki().devices["prod"], "prod device time 1")), asked())


def test_a_replayed_time_is_refused() -> None:
    assert "another question" in refused(told(), asked(nonce=b"m" * 16))


def test_an_answer_for_another_nonce_that_claims_ours_is_refused() -> None:
    other = signed_time(prods(), message_id="t", domain="prod", nonce=b"m" * 16, now=NOW)
    assert "signature" in refused(replace(other, nonce=NONCE))


def test_another_time_than_the_signed_one_is_refused() -> None:
    assert "signature" in refused(replace(told(), now=NOW + timedelta(seconds=1)))


def test_the_time_key_of_another_domain_is_refused() -> None:
    labs = time_key(pki().devices["lab"], "acme lab device time 1")
    assert "no time key of the domain" in refused(told(labs))


def test_the_time_key_of_another_domain_below_the_same_root_is_refused() -> None:
    below = pki().roots["prod"].issuing("acme lab devices")
    assert "no time key of the domain" in refused(told(time_key(below, "acme lab device time 1")))


def test_a_key_with_the_right_name_below_another_root_is_refused() -> None:
    stranger = Pki().devices["prod"]
    assert "no trust anchor" in refused(told(time_key(stranger, "acme prod device time 1")))


def test_a_leaf_that_is_no_time_key_is_refused() -> None:
    client = time_key(pki().devices["prod"], "acme prod device time 1", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    assert "none for the time" in refused(told(client))


def test_a_station_speaks_for_no_time() -> None:
    station = time_key(pki().roots["fleet"].issuing("acme stations"), "line-3")
    assert "no time key of the domain" in refused(told(station))


def test_a_key_speaks_for_no_time_after_its_own_life() -> None:
    assert "not valid at this time" in refused(told(now=NOW + timedelta(days=366)))


def test_a_key_speaks_for_no_time_before_its_own_life() -> None:
    assert "not valid at this time" in refused(told(now=NOW - timedelta(days=366)))


def test_a_jump_beyond_the_life_of_the_anchor_is_refused_whatever_the_keys_own_dates_say() -> None:
    root = pki().roots["prod"].certificate
    end = lifetime(root)[1]
    lasting = time_key(pki().devices["prod"], "acme prod device time 1", not_after=end + timedelta(days=900))
    assert "not valid at this time" in refused(told(lasting, now=end + timedelta(days=1)))


def test_a_chain_that_misses_the_issuing_ca_is_refused() -> None:
    reply = replace(told(), certificate=pem_of(prods().certificate).decode())
    assert "no trust anchor" in refused(reply)


@given(st.binary(max_size=128))
def test_no_bytes_but_the_signature_are_one(signature: bytes) -> None:
    assert refused(replace(told(), signature=signature))


@given(st.text(max_size=64))
def test_no_text_but_certificates_is_a_chain(text: str) -> None:
    assert refused(replace(told(), certificate=text))


def test_a_certificate_signed_by_a_leaf_is_refused() -> None:
    leaf = prods()
    forged = time_key(Authority(key=leaf.key, certificate=leaf.certificate), "acme prod device time 2")
    chain = (*forged.chain, pki().devices["prod"].certificate)
    assert "no CA" in refused(told(replace(forged, chain=chain)))
