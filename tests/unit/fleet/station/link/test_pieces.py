"""Objects in pieces: whatever the pieces, the whole is right or it is begun again."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.objects import ObjectId
from fleet.station.link.pieces import Incoming, Outgoing
from fleet.station.link.steps import Event


@given(st.binary(min_size=1, max_size=500), st.integers(1, 600))
def test_an_object_arrives_whole_in_any_pieces(octets: bytes, chunk: int) -> None:
    incoming = Incoming(length=len(octets), digest=hashlib.sha256(octets).digest())
    event = Event.MORE
    while event is Event.MORE:
        asked = incoming.next(chunk)
        event = incoming.take(octets[asked.offset : asked.offset + asked.length])
    assert event is Event.COMPLETE
    assert incoming.octets == octets


def test_an_object_with_another_hash_is_spoilt() -> None:
    incoming = Incoming(length=3, digest=hashlib.sha256(b"abc").digest())
    assert incoming.take(b"abd") is Event.SPOILT


@pytest.mark.parametrize("piece", [b"", b"abcd"])
def test_no_piece_and_too_much_are_spoilt(piece: bytes) -> None:
    incoming = Incoming(length=3, digest=hashlib.sha256(b"abc").digest())
    assert incoming.take(piece) is Event.SPOILT


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4), st.integers(1, 400))
def test_objects_leave_whole_one_after_another(objects: list[bytes], chunk: int) -> None:
    outgoing = Outgoing(zip(ObjectId, objects, strict=False))
    held: dict[ObjectId, bytes] = {}
    event = Event.MORE
    while event is Event.MORE:
        write = outgoing.next(chunk)
        held[write.object_id] = held.get(write.object_id, b"")[: write.offset] + write.octets
        event = outgoing.take(len(held[write.object_id]))
    assert event is Event.COMPLETE
    assert list(held.values()) == objects
    assert outgoing.done == outgoing.total == sum(map(len, objects))


@pytest.mark.parametrize("offset", [0, 11])
def test_a_device_that_says_it_holds_what_it_cannot_is_not_believed(offset: int) -> None:
    outgoing = Outgoing([(ObjectId.CHAIN, bytes(10))])
    outgoing.next(5)
    assert outgoing.take(offset) is Event.SPOILT


def test_a_spoilt_object_begins_again_and_the_others_stay() -> None:
    outgoing = Outgoing([(ObjectId.CHAIN, b"abc"), (ObjectId.ANCHORS, b"defgh")])
    outgoing.take(3)
    outgoing.take(2)
    outgoing.begin_again()
    assert outgoing.next(9).octets == b"defgh"
    assert outgoing.done == 3


def test_one_more_object_may_follow_the_last() -> None:
    outgoing = Outgoing([(ObjectId.CHAIN, b"abc")])
    outgoing.add(ObjectId.STATION_CHAIN, b"de")
    assert outgoing.take(3) is Event.MORE
    assert outgoing.begins is ObjectId.STATION_CHAIN
    assert outgoing.take(2) is Event.COMPLETE
