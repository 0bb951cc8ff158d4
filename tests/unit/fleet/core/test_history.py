"""Contacts: what makes two of them one row, and what strangers cannot do to the history."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from fleet.core.causes import (
    GUARD_WORDS,
    MEANINGS,
    Cause,
    of_guard,
    of_reason,
    of_verify_code,
    of_verify_text,
)
from fleet.core.history import (
    MOST_OF_ONE,
    MOST_STRANGERS,
    Contact,
    address_key,
    contact,
    gathered,
    network_keys,
)
from fleet.model import BrokerEventKind

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REFUSED = BrokerEventKind.REFUSED


def refused(*, name: str = "", address: str = "", at: datetime = NOW) -> Contact:
    return contact(kind=REFUSED, place="mosquitto", at=at, cause=Cause.EXPIRED, name=name, address=address)


def test_contacts_that_are_alike_are_one_row_with_a_number() -> None:
    later = NOW + timedelta(seconds=3)
    (one,) = gathered([refused(name="prod:d1", at=later), refused(name="prod:d1")])
    assert (one.times, one.first_at, one.last_at) == (2, NOW, later)
    assert (one.domain, one.device_id) == ("prod", "d1")


def test_contacts_that_differ_stand_apart() -> None:
    assert len(gathered([refused(name="prod:d1"), refused(name="prod:d2"), refused(address="10.0.0.1")])) == 3


def test_strangers_from_everywhere_make_few_rows_and_each_is_counted() -> None:
    found = gathered(refused(address=f"10.0.{n // 256}.{n % 256}") for n in range(1000))
    assert len(found) == MOST_STRANGERS + 1
    assert sum(one.times for one in found) == 1000
    assert found[-1].address == ""


def test_one_device_from_everywhere_makes_few_rows_and_is_still_named() -> None:
    found = gathered(refused(name="prod:d1", address=f"10.0.0.{n}") for n in range(100))
    assert len(found) == MOST_OF_ONE + 1
    assert {one.device_id for one in found} == {"d1"}


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=400))
def test_whatever_a_stranger_sends_is_kept_short_and_printable(name: str, serial: str, address: str) -> None:
    one = contact(
        kind=REFUSED, place="x", at=NOW, cause=Cause.OTHER, name=name, serial=serial, address=address
    )
    for text in (one.name, one.domain, one.device_id, one.serial, one.address):
        assert len(text) <= 128
        assert text.isprintable()
    assert len(one.likeness) == 64


@given(st.ip_addresses(), st.ip_addresses())
def test_keys_sort_as_addresses_do(one: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> None:
    if one.version == other.version:
        assert (int(one) < int(other)) == (address_key(str(one)) < address_key(str(other)))


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_an_address_is_in_its_network_and_its_keys_agree(address: IPv4Address, length: int) -> None:
    network = ip_network(f"{address}/{length}", strict=False)
    keys = network_keys(str(network))
    assert keys is not None
    assert keys[0] <= address_key(str(address)) <= keys[1]
    beyond = int(network.broadcast_address) + 1
    if beyond < 2**32:
        assert not keys[0] <= address_key(str(ip_address(beyond))) <= keys[1]


@given(st.text(max_size=60))
def test_what_is_no_address_has_no_key(text: str) -> None:
    assert len(address_key(text)) in {0, 32}
    network_keys(text)


def test_every_cause_says_what_it_means_and_what_helps() -> None:
    assert set(MEANINGS) == set(Cause)
    assert all(meaning.text and meaning.fix for meaning in MEANINGS.values())


def test_the_guards_words_are_known_and_others_are_other() -> None:
    assert of_guard("unlisted") is Cause.NOT_ADMITTED
    assert of_guard("something new") is Cause.OTHER
    assert "no-certificate" in GUARD_WORDS


@given(st.text(max_size=200), st.integers())
def test_any_word_of_openssl_has_a_cause(text: str, code: int) -> None:
    assert isinstance(of_reason(text), Cause)
    assert isinstance(of_verify_text(text), Cause)
    assert isinstance(of_verify_code(code), Cause)
