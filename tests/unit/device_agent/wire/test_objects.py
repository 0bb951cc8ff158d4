"""Objects are read strictly, and are the same bytes each time they are written."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire import cbor
from device_agent.wire.messages import BrokerAddress
from device_agent.wire.objects import (
    Configuration,
    encode_certificates,
    hashes_of,
    parse_certificates,
    parse_hardware_id,
)
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import HttpsAddress

CONFIGURATION = Configuration(
    hardware_id="hw:00.1",
    device_id="line3-0001",
    serial="41" + "ab" * 15,
    renew_after=datetime(2026, 3, 1, tzinfo=UTC),
    broker=BrokerAddress(host="broker.example", port=8883, name="prod:line3-0001"),
    servers=("cd" * 32,),
)


@pytest.mark.parametrize("recovery", [None, HttpsAddress(host="api.example", port=8443)])
def test_a_configuration_comes_back(recovery: HttpsAddress | None) -> None:
    configuration = replace(CONFIGURATION, recovery=recovery)
    assert Configuration.parse(configuration.encode()) == configuration


@given(st.lists(st.binary(min_size=1, max_size=900), min_size=1, max_size=8))
def test_certificates_come_back(certificates: list[bytes]) -> None:
    assert parse_certificates(encode_certificates(certificates)) == tuple(certificates)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_parser_fail_otherwise_than_it_says(octets: bytes) -> None:
    for parse in (Configuration.parse, parse_certificates):
        try:
            parse(octets)
        except MalformedMessageError:
            continue


def changed(**members: cbor.Item) -> bytes:
    found = cbor.decode(CONFIGURATION.encode())
    assert isinstance(found, dict)
    return cbor.encode(found | members)


@pytest.mark.parametrize(
    "octets",
    [
        changed(v=2),
        changed(hw="a b"),
        changed(hw=""),
        changed(id="a/b"),
        changed(id="a" * 65),
        changed(sn=b"\x41" * 15),
        changed(ra=-1),
        changed(ra=2**62),
        changed(broker={"host": "a", "port": 0, "name": "n"}),
        changed(broker=[]),
        changed(servers=[b"short"]),
        changed(servers=[]),
        changed(recovery={"host": "a\nb", "port": 1}),
        b"\x80",
    ],
)
def test_a_configuration_that_is_not_right_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        Configuration.parse(octets)


def test_members_of_a_later_version_are_ignored() -> None:
    assert Configuration.parse(changed(later=[1, 2])) == CONFIGURATION


@pytest.mark.parametrize("certificates", [[], [b""], [b"a"] * 9, [b"a" * 4097]])
def test_too_many_or_too_long_certificates_are_refused(certificates: list[bytes]) -> None:
    with pytest.raises(MalformedMessageError):
        parse_certificates(encode_certificates(certificates))


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a" * 65, "a\n", "é", None, 7, b"hw"])
def test_hostile_hardware_ids_are_refused(text: object) -> None:
    with pytest.raises(MalformedMessageError):
        parse_hardware_id(text)


def test_each_object_has_its_own_hash() -> None:
    hashes = hashes_of(chain=b"1", anchors=b"2", configuration=b"3")
    assert len({hashes.chain, hashes.anchors, hashes.configuration}) == 3
