"""MQTT packets of devices under test: whatever bytes come, they are read or refused, and nothing else."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import MalformedMessageError
from fleet.cli.conformance import mqtt_packets as packets
from fleet.cli.conformance.mqtt_packets import Kind, Packet

OCTETS = st.binary(max_size=64)


@given(body=OCTETS)
@pytest.mark.parametrize("read", [packets.read_connect, packets.read_subscribe])
def test_no_bytes_break_a_reader(read: Callable[[bytes], object], body: bytes) -> None:
    with suppress(MalformedMessageError):
        read(body)


@given(body=OCTETS, flags=st.integers(0, 15))
def test_no_message_breaks_the_reader(body: bytes, flags: int) -> None:
    with suppress(MalformedMessageError):
        packets.read_publish(Packet(kind=Kind.PUBLISH, flags=flags, body=body))


@given(first=st.integers(0, 255))
def test_a_type_is_one_of_a_clients_or_refused(first: int) -> None:
    with suppress(MalformedMessageError):
        assert packets.kind_of(first) == first >> 4


@given(topic=st.text(min_size=1, max_size=20), payload=st.binary(max_size=300))
def test_what_is_published_is_read_back(topic: str, payload: bytes) -> None:
    octets = packets.publish(topic, payload, identifier=7)
    at = 2 if octets[1] < 0x80 else 3
    found = packets.read_publish(Packet(kind=Kind.PUBLISH, flags=octets[0] & 15, body=octets[at:]))
    assert (found.topic, found.payload, found.qos, found.identifier) == (topic, payload, 1, 7)


def test_a_connect_of_mqtt_3_1_1_is_read() -> None:
    found = packets.read_connect(b"\0\4MQTT\4\2\0\x0f\0\2d1")
    assert (found.level, found.is_clean, found.has_will, found.keepalive, found.client_id) == (
        *(4, True, False, 15),
        "d1",
    )
