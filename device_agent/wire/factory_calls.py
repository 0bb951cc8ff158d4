"""Calls of the factory link: a request in its envelope, and the answer to it.

`s` and `q` say which call an answer belongs to; an answer without them counts only as a refusal, by
the sequence octet of its SMP header, because servers of the MCUmgr family refuse in that way.
"""

from dataclasses import dataclass

from device_agent.wire import smp
from device_agent.wire.cbor import Item
from device_agent.wire.factory import MAX_SEQUENCE, SESSION_BYTES, Command
from device_agent.wire.factory_replies import REPLIES, Refusal, Reply
from device_agent.wire.factory_requests import OPS, REQUESTS, Request
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.smp import Header, Members, Packet

_HIGHEST_RC = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class CallId:
    """Names one call of one session."""

    session: bytes
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request and the call that it is."""

    id: CallId
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply or a refusal; `id` is None where the device named no call, only the header's sequence."""

    id: CallId | None
    sequence_octet: int
    reply: Reply | Refusal

    def answers(self, call: Call) -> bool:
        """Return whether this is the answer to that call, and of its kind."""
        if isinstance(self.reply, Refusal):
            return self.id == call.id if self.id else self.sequence_octet == call.id.sequence & 0xFF
        return self.id == call.id and self.reply.command is call.request.command


def encode_call(call: Call, *, group: int) -> bytes:
    """Return the SMP message of a call."""
    command = call.request.command
    header = Header(op=OPS[command], group=group, sequence=call.id.sequence & 0xFF, command=command)
    return smp.encode(header, _envelope(call.id) | call.request.members())


def parse_call(packet: Packet) -> Call:
    """Return the call in a packet of the factory group.

    Raises:
        MalformedMessageError: the command is unknown or comes with the wrong op, or its map is not right.
    """
    try:
        command = Command(packet.header.command)
    except ValueError as error:
        raise MalformedMessageError("command is none of the factory link") from error
    if packet.header.op is not OPS[command]:
        raise MalformedMessageError("command comes with the wrong op")
    return Call(id=_call_id(packet.body), request=REQUESTS[command].read(packet.body))


def call_id_of(packet: Packet) -> CallId | None:
    """Return which call a packet says that it is, even where the rest of it cannot be read."""
    try:
        return _call_id(packet.body)
    except MalformedMessageError:
        return None


def encode_answer(request: Header, call_id: CallId | None, reply: Reply | Refusal) -> bytes:
    """Return the SMP message that answers a request with that header."""
    found: dict[str, Item] = _envelope(call_id) if call_id else {}
    if isinstance(reply, Refusal):
        return smp.encode(request.response(), found | {"rc": reply.rc})
    return smp.encode(request.response(), found | {"rc": 0} | reply.members())


def encode_foreign_refusal(request: Header, rc: int) -> bytes:
    """Return the refusal of a request of another group.

    Both versions of SMP tell by `rc` that there is no such command; `err` is for a group's own errors.
    """
    return smp.encode(request.response(), {"rc": rc})


def encode_parameters(request: Header, *, largest: int) -> bytes:
    """Return the answer to the OS group's "MCUmgr parameters": one buffer, of that many bytes."""
    return smp.encode(request.response(), {"buf_size": largest, "buf_count": 1})


def parse_answer(message: bytes, *, group: int) -> Answer:
    """Return what a device answered.

    Raises:
        MalformedMessageError: it is no answer of the factory group.
    """
    packet = smp.parse(message)
    header, body = packet.header, packet.body
    if header.group != group or header.op not in (smp.Op.READ_RESPONSE, smp.Op.WRITE_RESPONSE):
        raise MalformedMessageError("not an answer of the factory group")
    rc = _rc(body)
    call_id = call_id_of(packet)
    if rc:
        return Answer(id=call_id, sequence_octet=header.sequence, reply=Refusal(rc=rc))
    try:
        kind = REPLIES[Command(header.command)]
    except ValueError as error:
        raise MalformedMessageError("answer to a command that the factory link has not") from error
    return Answer(id=_call_id(body), sequence_octet=header.sequence, reply=kind.read(body))


def _rc(body: Members) -> int:
    if "err" in body:
        return body.map("err").integer("rc", lowest=1, highest=_HIGHEST_RC)
    return body.integer("rc", highest=_HIGHEST_RC) if "rc" in body else 0


def _envelope(call_id: CallId) -> dict[str, Item]:
    return {"s": call_id.session, "q": call_id.sequence}


def _call_id(body: Members) -> CallId:
    return CallId(
        session=body.octets("s", lowest=SESSION_BYTES, highest=SESSION_BYTES),
        sequence=body.integer("q", highest=MAX_SEQUENCE),
    )
