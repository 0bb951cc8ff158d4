"""A device of ours on a line in memory, and as many broken ones as the conformance kit has to find."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_agent.agent import Agent
from device_agent.config import Settings
from device_agent.core.station_link import StationLink
from device_agent.core.station_unit import Installation, UnitReport
from device_agent.unit import SerialUnit
from device_agent.wire.factory import Command, LinkState
from device_agent.wire.framing import Decoder, Frame, Framing, encode_burst
from device_agent.wire.smp import parse
from tests.pki import utc_now


@contextmanager
def real_unit(folder: Path, *, device_id: str = "") -> Iterator[SerialUnit]:
    """The agent's own unit, with its record in files."""
    with Agent.opened(Settings(state=folder)) as agent:
        yield SerialUnit(agent._life, hardware_id="hw-1", model="bench", wanted_id=device_id)


class LinkDevice:
    """A `Line` with a device at its other end."""

    def __init__(self, unit: SerialUnit) -> None:
        self.unit: SerialUnit = unit
        self.link = StationLink(unit)
        self._decoder = Decoder()
        self._coming: asyncio.Queue[bytes] = asyncio.Queue()
        self._nonces = 0

    async def read(self) -> bytes:
        return await self._coming.get()

    async def write(self, octets: bytes) -> None:
        for frame in self.frames(octets):
            answer = self.answer(frame)
            if answer is not None:
                self._coming.put_nowait(encode_burst(answer, self.framing_of(frame)))

    def frames(self, octets: bytes) -> list[Frame]:
        return self._decoder.feed(octets)

    def framing_of(self, frame: Frame) -> Framing:
        return frame.framing

    def answer(self, frame: Frame) -> bytes | None:
        return self.handle(frame.message)

    def handle(self, message: bytes) -> bytes | None:
        return self.link.handle(message, nonce=self.nonce(), now=utc_now()).answer

    def nonce(self) -> bytes:
        self._nonces += 1
        return hashlib.sha256(self._nonces.to_bytes(4)).digest()[:16]


class SameNonce(LinkDevice):
    def nonce(self) -> bytes:
        return bytes(16)


class Forgetful(LinkDevice):
    """Says nothing to a call that it has answered before."""

    last = b""

    def handle(self, message: bytes) -> bytes | None:
        if message == self.last:
            return None
        self.last = message
        return super().handle(message)


class AnySession(LinkDevice):
    """Takes every session for its own."""

    def handle(self, message: bytes) -> bytes | None:
        packet = parse(message)
        if packet.header.command != 0 and "s" in packet.body:
            self.link._session = packet.body.octets("s", lowest=8, highest=8)
        return super().handle(message)


class EndsWhenEnrolled(LinkDevice):
    """A program that is through once it is enrolled, and is started again a little later."""

    misses = 3

    def handle(self, message: bytes) -> bytes | None:
        is_greeted = parse(message).header.command == Command.HELLO
        if is_greeted and self.misses and self.unit.report().state is LinkState.ACTIVE:
            self.misses -= 1
            return None
        return super().handle(message)


class WrongFraming(LinkDevice):
    def framing_of(self, frame: Frame) -> Framing:
        return Framing.COBS


class NoLines(LinkDevice):
    """Understands COBS alone."""

    def answer(self, frame: Frame) -> bytes | None:
        return super().answer(frame) if frame.framing is Framing.COBS else None


class ShortCounter(LinkDevice):
    """Keeps q in sixteen bits."""

    def handle(self, message: bytes) -> bytes | None:
        answer = super().handle(message)
        call = parse(message).body
        if answer is None or "q" not in call or call.integer("q", highest=2**32) < 2**16:
            return answer
        return answer.replace(call.integer("q", highest=2**32).to_bytes(4), bytes(4))


class StopsAfterNoise(LinkDevice):
    """Says nothing more once it has seen what is no frame."""

    is_stuck = False

    def frames(self, octets: bytes) -> list[Frame]:
        self.is_stuck = self.is_stuck or b"\xff" * 8 in octets
        return [] if self.is_stuck else super().frames(octets)


@dataclass
class Bent:
    """The unit of a device, with one act done otherwise."""

    unit: SerialUnit

    def report(self) -> UnitReport:
        return self.unit.report()

    def request(self, device_id: str) -> bytes:
        return self.unit.request(device_id)

    def install(self, installation: Installation) -> None:
        self.unit.install(installation)

    def sign(self, message: bytes) -> bytes:
        return self.unit.sign(message)

    def commit(self) -> None:
        self.unit.commit()


class NewKeyEachTime(Bent):
    def request(self, device_id: str) -> bytes:
        self.unit._begin(device_id)
        return self.unit._life.record.csr


class SignsSomethingElse(Bent):
    def sign(self, message: bytes) -> bytes:
        return self.unit.sign(b"something else")


class SignsWithoutSession(Bent):
    def sign(self, message: bytes) -> bytes:
        return self.unit.sign(message[19:])


class CommitsNothing(Bent):
    def commit(self) -> None:
        pass


def bent(kind: type[Bent]) -> Callable[[SerialUnit], LinkDevice]:
    def make(unit: SerialUnit) -> LinkDevice:
        device = LinkDevice(unit)
        device.link = StationLink(kind(unit))
        return device

    return make
