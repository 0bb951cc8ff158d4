"""Calls to one unit over a line, one after another, for work that is no session of the line's table.

A call is repeated until it is answered or the unit is given up; objects go in pieces that follow the line.
It decides nothing: what a refusal means is for whoever called.
"""

import asyncio
from collections.abc import Callable

from device_agent.wire import factory_replies as replies
from device_agent.wire.factory import Rc
from device_agent.wire.factory_requests import Read, Request
from device_agent.wire.framing import Decoder, Framing, encode_burst
from device_agent.wire.objects import ObjectId
from device_agent.wire.smp import DEFAULT_GROUP
from fleet.errors import RefusedError, UnreachableError
from fleet.station.link.caller import Caller
from fleet.station.link.pace import MESSAGE_OVERHEAD, Pace
from fleet.station.link.pieces import Incoming, Outgoing
from fleet.station.link.port import Line
from fleet.station.link.steps import Event, Send

_MOST_ATTEMPTS = 64
_MOST_SPOILT = 8
_FRAMINGS = (Framing.COBS, Framing.LINES)


class UnitRefusedError(RefusedError):
    """The unit did not do it; `rc` says why."""

    def __init__(self, request: Request, rc: int) -> None:
        name = Rc(rc).name.lower().replace("_", " ") if rc in set(Rc) else "unknown"
        super().__init__(f"the unit refused {request.command.name.lower()} with rc {rc} ({name})")
        self.rc = rc


class Conversation:
    """One session with one unit."""

    def __init__(
        self, line: Line, *, pace: Pace, randomness: Callable[[int], bytes], group: int = DEFAULT_GROUP
    ) -> None:
        self._line = line
        self._decoder = Decoder()
        self._caller = Caller(pace=pace, group=group, framings=_FRAMINGS, randomness=randomness)

    @property
    def session(self) -> bytes:
        """The name of the session, for what is signed in it."""
        return self._caller.session

    def allow(self, largest: int) -> None:
        """Take what HELLO told about the longest message."""
        self._caller.pace.allow(largest)

    async def call(self, request: Request) -> replies.Reply:
        """Return the reply.

        Raises:
            UnitRefusedError: the unit refused.
            UnreachableError: nobody answers, or the port went away.
        """
        reply = await self._hear(self._caller.ask(request))
        while reply is None:
            self._fail()
            again = self._caller.again()
            reply = await self._hear(again) if again else None
        return _accepted(request, reply)

    async def read(self, object_id: int, *, length: int, digest: bytes) -> bytes:
        """Return an object that the unit told the length and SHA-256 of; raises as `call`."""
        for _ in range(_MOST_SPOILT):
            incoming = Incoming(length=length, digest=digest)
            event = Event.MORE
            while event is Event.MORE:
                event = await self._read_piece(incoming, object_id)
            if event is Event.COMPLETE:
                return incoming.octets
        raise UnreachableError("the line spoils what the unit sends")

    async def write(self, objects: dict[ObjectId, bytes]) -> None:
        """Write objects whole; raises as `call`."""
        outgoing = Outgoing(objects.items())
        event, spoilt = Event.MORE, 0
        while event is not Event.COMPLETE:
            try:
                reply = await self._once(outgoing.next(self._caller.pace.chunk))
            except UnitRefusedError as error:
                if error.rc != Rc.OFFSET:
                    raise
                reply = replies.WriteReply(offset=0)
            event = outgoing.take(reply.offset) if isinstance(reply, replies.WriteReply) else Event.MORE
            if event is Event.SPOILT:
                spoilt += 1
                outgoing.begin_again()
            if spoilt > _MOST_SPOILT:
                raise UnreachableError("the line spoils what is sent to the unit")

    async def _read_piece(self, incoming: Incoming, object_id: int) -> Event:
        piece = incoming.next(self._caller.pace.chunk)
        wanted = Read(object_id=object_id, offset=piece.offset, length=piece.length)
        reply = await self._once(wanted)
        return incoming.take(reply.octets) if isinstance(reply, replies.ReadReply) else Event.MORE

    async def _once(self, request: Request) -> replies.Reply | None:
        """Call once: what is not answered is cut anew, in smaller pieces; None where it was not."""
        expects = self._caller.pace.chunk + MESSAGE_OVERHEAD if isinstance(request, Read) else 0
        reply = await self._hear(self._caller.ask(request, expects=expects))
        if reply is None:
            self._fail()
            return None
        return _accepted(request, reply)

    def _fail(self) -> None:
        if self._caller.fail() >= _MOST_ATTEMPTS:
            raise UnreachableError("the unit does not answer", hint="is it plugged in, and powered")

    async def _hear(self, send: Send) -> replies.Reply | replies.Refusal | None:
        await self._line.write(encode_burst(send.message, send.framing))
        clock = asyncio.get_running_loop().time
        sent = clock()
        try:
            async with asyncio.timeout(send.seconds):
                while True:
                    for frame in self._decoder.feed(await self._line.read()):
                        answer = self._caller.answer(frame, after=clock() - sent)
                        if answer is not None:
                            return answer
        except TimeoutError:
            return None


def _accepted(request: Request, reply: replies.Reply | replies.Refusal) -> replies.Reply:
    if isinstance(reply, replies.Refusal):
        raise UnitRefusedError(request, reply.rc)
    return reply
