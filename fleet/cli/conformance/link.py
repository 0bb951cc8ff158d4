"""The kit's end of a serial line: calls as a station makes them, and calls as no station would.

Every call is made once, under its own number, so that nothing a device leaves out is mended by a repetition.
"""

import asyncio
import secrets
from dataclasses import dataclass

from device_agent.wire import smp
from device_agent.wire.factory import SESSION_BYTES, Command
from device_agent.wire.factory_calls import Answer, Call, CallId, encode_call, parse_answer
from device_agent.wire.factory_replies import Refusal, Reply
from device_agent.wire.factory_requests import Request
from device_agent.wire.framing import Decoder, Frame, Framing, encode_burst
from device_agent.wire.problems import MalformedMessageError
from fleet.cli.conformance.check import Failure
from fleet.station.link.port import Line

_SECONDS = 2.0
_LONG_SECONDS = 10.0
"""For calls in which a device makes keys, verifies, signs or writes its flash."""
_LONG = (Command.IDENT, Command.INSTALL, Command.PROVE, Command.COMMIT)


@dataclass(slots=True)
class Talk:
    """One session: its octets and the last number that was used."""

    session: bytes
    sequence: int = 0

    @classmethod
    def begun(cls) -> "Talk":
        """Return a new session."""
        return cls(secrets.token_bytes(SESSION_BYTES))

    def next(self) -> CallId:
        """Return the name of the next call."""
        self.sequence += 1
        return CallId(session=self.session, sequence=self.sequence)


class Link:
    """A line to a device; `framing` is how calls go out now."""

    def __init__(self, line: Line, *, group: int = smp.DEFAULT_GROUP, patience: float = 1.0) -> None:
        """`patience` multiplies how long answers are waited for."""
        self.framing = Framing.LINES
        self.group = group
        self._line = line
        self._patience = patience

    async def ask(self, talk: Talk, request: Request) -> Reply:
        """Return the reply to a call; raises `Failure` where there is none, or a refusal."""
        reply = await self.judge(talk, request)
        if isinstance(reply, Refusal):
            raise Failure(f"{request.command.name} is refused with rc {reply.rc}")
        return reply

    async def judge(self, talk: Talk, request: Request) -> Reply | Refusal:
        """Return the reply to a call, or its refusal; raises `Failure` where neither comes."""
        call = Call(id=talk.next(), request=request)
        frames = await self.exchange(encode_call(call, group=self.group), seconds=_time_for(request))
        return self._answer(call, frames).reply

    async def silent(self, talk: Talk, request: Request) -> bool:
        """Return whether a call gets no answer at all."""
        call = Call(id=talk.next(), request=request)
        return not await self.exchange(encode_call(call, group=self.group), seconds=_SECONDS)

    async def exchange(self, message: bytes, *, seconds: float = _SECONDS) -> list[Frame]:
        """Send a message and return the frames that come until there is one, or the time is over."""
        return await self.raw(encode_burst(message, self.framing), seconds=seconds)

    async def raw(self, octets: bytes, *, seconds: float = _SECONDS) -> list[Frame]:
        """Send octets as they are, and return the frames that come, as `exchange`."""
        await self._line.write(octets)
        decoder = Decoder()
        try:
            async with asyncio.timeout(seconds * self._patience):
                while True:
                    if frames := decoder.feed(await self._line.read()):
                        return frames
        except TimeoutError:
            return []

    async def send(self, octets: bytes) -> None:
        """Send octets, and wait for nothing."""
        await self._line.write(octets)

    def _answer(self, call: Call, frames: list[Frame]) -> Answer:
        name = call.request.command.name
        if not frames:
            raise Failure(f"{name} gets no answer")
        if frames[0].framing is not self.framing:
            raise Failure(f"{name} was asked in {self.framing} and is answered in {frames[0].framing}")
        try:
            answer = parse_answer(frames[0].message, group=self.group)
        except MalformedMessageError as error:
            raise Failure(f"the answer to {name} cannot be read: {error}") from error
        if answer.id not in (None, call.id) or not answer.answers(call):
            raise Failure(f"the answer to {name} is of another call: s, q or the command differ")
        if answer.sequence_octet != call.id.sequence & 0xFF:
            raise Failure(f"the answer to {name} has another sequence octet in its SMP header")
        return answer


def _time_for(request: Request) -> float:
    return _LONG_SECONDS if request.command in _LONG else _SECONDS
