"""Calls to one unit over a line in memory, as noisy as wanted."""

import asyncio
import hashlib

import pytest

from device_agent.core.station_link import StationLink
from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire.factory import Rc
from device_agent.wire.framing import Decoder, encode_burst
from device_agent.wire.objects import ObjectId, ReadableId
from fleet.errors import UnreachableError
from fleet.station.link.cable import Noise
from fleet.station.link.conversation import Conversation, UnitRefusedError
from fleet.station.link.pace import Pace
from tests.factory_floor import NOW, MemoryUnit, counted_randomness


class MemoryLine:
    """A line to one of our devices: what it answers can be read at once."""

    def __init__(self, *, noise: float = 0.0, is_cut: bool = False) -> None:
        self._link = StationLink(MemoryUnit())
        self._decoder = Decoder()
        self._out, self._back = Noise(noise, seed=1), Noise(noise, seed=2)
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._is_cut = is_cut

    async def read(self) -> bytes:
        return await self._answers.get()

    async def write(self, octets: bytes) -> None:
        if self._is_cut:
            return
        for frame in self._decoder.feed(self._out.spoil(octets)):
            handled = self._link.handle(frame.message, nonce=bytes(16), now=NOW)
            if handled.answer:
                burst = encode_burst(handled.answer, frame.framing)
                self._answers.put_nowait(self._back.spoil(burst))


def conversation(line: MemoryLine) -> Conversation:
    return Conversation(line, pace=Pace(baud=4_000_000), randomness=counted_randomness())


async def keyed(talk: Conversation) -> replies.IdentReply:
    hello = await talk.call(requests.Hello(nonce=bytes(16)))
    assert isinstance(hello, replies.HelloReply)
    talk.allow(hello.largest)
    ident = await talk.call(requests.Ident(device_id="d1"))
    assert isinstance(ident, replies.IdentReply)
    return ident


@pytest.mark.parametrize("noise", [0.0, 3e-4])
async def test_objects_arrive_whole_in_both_directions(noise: float) -> None:
    talk = conversation(MemoryLine(noise=noise))
    ident = await keyed(talk)
    csr = await talk.read(ReadableId.CSR, length=ident.length, digest=ident.digest)
    assert hashlib.sha256(csr).digest() == ident.digest
    await talk.write({ObjectId.CHAIN: bytes(range(256)) * 12, ObjectId.ANCHORS: b"anchors"})


async def test_a_refusal_is_told_with_its_rc() -> None:
    talk = conversation(MemoryLine())
    await keyed(talk)
    with pytest.raises(UnitRefusedError, match=r"refused prove with rc 2 \(state\)") as refused:
        await talk.call(requests.Prove(nonce=bytes(16)))
    assert refused.value.rc == Rc.STATE


async def test_a_unit_that_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.station.link.conversation._MOST_ATTEMPTS", 2)
    talk = conversation(MemoryLine(is_cut=True))
    with pytest.raises(UnreachableError, match="does not answer"):
        await talk.call(requests.Status())


async def test_an_object_of_another_hash_than_was_told_is_not_taken() -> None:
    talk = conversation(MemoryLine())
    ident = await keyed(talk)
    with pytest.raises(UnreachableError, match="spoils"):
        await talk.read(ReadableId.CSR, length=ident.length, digest=bytes(32))
