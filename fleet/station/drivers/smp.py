"""Serves one unit that speaks our factory link: moves bytes and time between a line and a session."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from device_agent.wire.factory_replies import StatusReply
from device_agent.wire.factory_requests import Status
from device_agent.wire.framing import Decoder, Frame, encode_burst
from fleet.station.drivers.driver import Decide, Driver, Seen
from fleet.station.link import steps
from fleet.station.link.port import Line
from fleet.station.link.session import Session

_Result_co = TypeVar("_Result_co", covariant=True)


class _Take(Protocol[_Result_co]):
    """Takes a frame and how long after the question it came, in seconds."""

    def __call__(self, frame: Frame, *, after: float) -> _Result_co | None: ...


_LOOK_SECONDS = 0.5
_MISSED_LOOKS = 3
_MOST_UNASKED_BYTES = 64 * 1024
"""Boot logs are shorter, and so is everything that answers one question."""


class SmpDriver:
    """One session on one line.

    `wire_bytes` counts what went both ways and `began` is the time of the event loop, both from the HELLO
    that was answered.
    """

    def __init__(self, session: Session, line: Line) -> None:
        self.session = session
        self.wire_bytes = 0
        self.began = 0.0
        self._line = line
        self._heard = 0
        self._decoder = Decoder()

    @property
    def step(self) -> steps.Step:
        """Return what the session is at."""
        return self.session.step

    @property
    def seen(self) -> Seen:
        """Return what is known of the unit."""
        done, total = self.session.progress
        return Seen(
            hardware_id=self.session.hardware_id,
            device_id=self.session.device_id,
            serial=self.session.serial,
            done=done,
            total=total,
            calls=self.session.caller.calls,
            tofu=self.session.tofu,
        )

    async def serve(self, *, decide: Decide, watch: Callable[[Driver], None]) -> steps.End:
        """Run the session to its end; `watch` is called with this driver after each move.

        Raises:
            UnpluggedError: the port went away.
        """
        effect = self.session.start()
        while not isinstance(effect, steps.End):
            match effect:
                case steps.Send():
                    effect = await self._call(effect)
                case steps.Wait(seconds=seconds):
                    await asyncio.sleep(seconds)
                    effect = self.session.timed_out()
                case _:
                    effect = self.session.decided(await decide(effect))
            watch(self)
        return effect

    async def until_it_leaves(self) -> None:
        """Return when the unit of the ended session does not answer any more, or answers as a stranger."""
        missed = 0
        while missed < _MISSED_LOOKS:
            await asyncio.sleep(_LOOK_SECONDS)
            call = self.session.caller.ask(Status())
            await self._send(call)
            answers = await self._hear(call.seconds, self.session.caller.answer)
            if answers is not None and not isinstance(answers, StatusReply):
                return
            missed = 0 if answers else missed + 1

    async def _call(self, send: steps.Send) -> steps.Effect:
        if self.session.step is steps.Step.HELLO:
            self.wire_bytes, self.began = 0, asyncio.get_running_loop().time()
        await self._send(send)
        effect: steps.Effect | None = await self._hear(send.seconds, self.session.received)
        if effect is not None:
            return effect
        return self.session.drown() if self._heard > _MOST_UNASKED_BYTES else self.session.timed_out()

    async def _send(self, send: steps.Send) -> None:
        octets = encode_burst(send.message, send.framing)
        self.wire_bytes += len(octets)
        await self._line.write(octets)

    async def _hear(self, seconds: float, take: "_Take[_Result_co]") -> _Result_co | None:
        """Give frames to `take` until it makes something of one, or the time is over."""
        clock = asyncio.get_running_loop().time
        sent, self._heard = clock(), 0
        try:
            async with asyncio.timeout(seconds):
                while self._heard <= _MOST_UNASKED_BYTES:
                    for frame in await self._frames():
                        result = take(frame, after=clock() - sent)
                        if result is not None:
                            return result
        except TimeoutError:
            pass
        return None

    async def _frames(self) -> list[Frame]:
        octets = await self._line.read()
        # A line that always has something to read never waits: the other lanes have their turn here.
        await asyncio.sleep(0)
        self.wire_bytes += len(octets)
        self._heard += len(octets)
        self.session.hear(octets)
        broken = self._decoder.broken
        frames = self._decoder.feed(octets)
        if self._decoder.broken > broken:
            self.session.hear_noise()
        return frames
