"""How a device talks on the factory link: framings, envelopes, repetitions, noise; not its certificates."""

from device_agent.wire import smp
from device_agent.wire.factory import Rc
from device_agent.wire.factory_calls import Call, CallId, encode_call
from device_agent.wire.factory_replies import StatusReply
from device_agent.wire.factory_requests import Hello, Status
from device_agent.wire.framing import MAX_LINE_BYTES, Framing, encode, encode_burst
from device_agent.wire.problems import MalformedMessageError
from fleet.cli.conformance.check import Absent, Check, Failure
from fleet.cli.conformance.device import Device
from fleet.cli.conformance.link import Talk

_PAGE = "serial-protocol.md"
_NO_COMMAND = 63
_HELLOS = 10
"""A device may take a while to boot."""
_NOISE = (b"\xff" * 64, b"\x06\x09not base64\n", b"*** Booting ***\r\n[00:00:01] <inf> main: \x04\x14 up\r\n")


async def hello(device: Device) -> None:
    """HELLO over console lines, as often as a booting device needs."""
    for attempt in range(_HELLOS):
        try:
            await device.begin()
        except Failure as failure:
            if attempt + 1 == _HELLOS or "no answer" not in str(failure):
                raise
        else:
            return


async def _nonce(device: Device) -> None:
    first, second = (await device.begin()).nonce, (await device.begin()).nonce
    if first == second:
        raise Failure("two sessions have the same device nonce")


async def _repeated(device: Device) -> None:
    """The same call again gets the same octets, and is not done again."""
    hello_reply = await device.begin()
    call = Call(id=device.talk.next(), request=Hello(nonce=bytes(16)))
    message = encode_call(call, group=device.link.group)
    answers = [[frame.message for frame in await device.link.exchange(message)] for _ in range(2)]
    if not answers[0] or answers[0] != answers[1]:
        raise Failure("the same s and q do not get the same answer, octet by octet")
    if (await _status(device)).state is not hello_reply.state:
        raise Failure("a repeated call has changed the state")


async def _status(device: Device) -> StatusReply:
    reply = await device.link.ask(device.talk, Status())
    if not isinstance(reply, StatusReply):
        raise Failure("STATUS is answered as another command")
    return reply


async def _session(device: Device) -> None:
    await device.begin()
    own, device.talk = device.talk, Talk.begun()
    try:
        await device.refused(Status(), rcs=(Rc.SESSION,), what="STATUS of a session that was never opened")
    finally:
        device.talk = own
    await _status(device)


async def _sequence(device: Device) -> None:
    """Any q will do, also the highest, and one that is lower than the last."""
    await device.begin()
    for sequence in (2**32 - 2, 300, 7):
        device.talk.sequence = sequence
        await _status(device)


async def _unknown(device: Device) -> None:
    await device.begin()
    call_id = device.talk.next()
    header = smp.Header(
        op=smp.Op.WRITE,
        group=device.link.group,
        sequence=call_id.sequence & 0xFF,
        command=_NO_COMMAND,
    )
    message = smp.encode(header, {"s": call_id.session, "q": call_id.sequence})
    rc = _rc_of([frame.message for frame in await device.link.exchange(message)])
    if rc != Rc.UNSUPPORTED:
        raise Failure(f"a command that does not exist gets rc {rc}, and should get rc {int(Rc.UNSUPPORTED)}")


def _rc_of(messages: list[bytes]) -> int:
    """Return the refusal in whatever came; raises `Failure`."""
    if not messages:
        raise Failure("a command that does not exist gets no answer")
    try:
        body = smp.parse(messages[0]).body
        found = body.map("err") if "err" in body else body
        return found.integer("rc", highest=0xFFFF) if "rc" in found else 0
    except MalformedMessageError as error:
        raise Failure(f"the answer to it cannot be read: {error}") from error


async def _noise(device: Device) -> None:
    await device.begin()
    for octets in _NOISE:
        await device.link.send(octets)
    await _next(device, "noise and log lines")


async def _broken(device: Device) -> None:
    """A frame with a wrong CRC is not obeyed, and the next one is."""
    await device.begin()
    call = Call(id=device.talk.next(), request=Status())
    good = encode(encode_call(call, group=device.link.group), Framing.COBS)
    spoilt = bytearray(good)
    spoilt[len(spoilt) // 2] ^= 0x20
    if await device.link.raw(b"\0" + bytes(spoilt) + b"\0", seconds=1.0):
        raise Failure("a frame with a wrong CRC is answered")
    await _next(device, "a frame with a wrong CRC")


async def _cut(device: Device) -> None:
    """Half a frame, and then a whole one."""
    await device.begin()
    call = Call(id=device.talk.next(), request=Hello(nonce=bytes(16)))
    burst = encode_burst(encode_call(call, group=device.link.group), device.link.framing)
    await device.link.send(burst[: len(burst) // 2])
    await device.link.send(b"\n" if device.link.framing is Framing.LINES else b"\0")
    await _next(device, "a frame that was cut off")


async def _oversize(device: Device) -> None:
    """A line and a frame that are longer than any may be."""
    await device.begin()
    await device.link.send(b"\x06\x09" + b"A" * (4 * MAX_LINE_BYTES) + b"\n")
    await device.link.send(b"\x01" * 9000 + b"\0")
    await _next(device, "a line and a frame without end")


async def _next(device: Device, what: str) -> None:
    try:
        await _status(device)
    except Failure as failure:
        raise Failure(f"after {what}: {failure}") from failure


async def _lengths(device: Device) -> None:
    """A message whose header tells another length than it has is none."""
    await device.begin()
    call_id = CallId(session=device.talk.session, sequence=device.talk.sequence + 1)
    message = bytearray(encode_call(Call(id=call_id, request=Status()), group=device.link.group))
    message[3] ^= 0x01
    frames = await device.link.exchange(bytes(message), seconds=1.0)
    if frames and not _is_refusal(frames[0].message):
        raise Failure("a message whose header tells another length than it has is obeyed")
    await _next(device, "such a message")


def _is_refusal(message: bytes) -> bool:
    try:
        return _rc_of([message]) != 0
    except Failure:
        return False


async def _cobs(device: Device) -> None:
    device.link.framing = Framing.COBS
    try:
        await device.begin()
    except Failure as failure:
        if "no answer" in str(failure):
            raise Absent("it does not speak COBS: stations find that out") from failure
        raise
    finally:
        device.link.framing = Framing.LINES


async def _stock(device: Device) -> None:
    """Stock SMP clients ask for the size of the buffer first."""
    header = smp.Header(op=smp.Op.READ, group=smp.OS_GROUP, sequence=1, command=smp.OS_PARAMETERS)
    frames = await device.link.exchange(smp.encode(header, {}))
    if not frames:
        raise Absent("stock SMP clients have to be told the size of its buffer")
    try:
        if "buf_size" not in smp.parse(frames[0].message).body:
            raise Absent("stock SMP clients have to be told the size of its buffer")
    except MalformedMessageError as error:
        raise Failure(f"the answer cannot be read: {error}") from error


_HELLO = ("hello",)

TALK: tuple[Check[Device], ...] = (
    Check(
        name="hello",
        title="answers HELLO over console lines",
        rule=f"{_PAGE}: Framings, Messages",
        advice="answer in lines that begin 06 09 and 04 14, base64, at most 127 octets with the newline,"
        " CRC16-XMODEM; n has 16 octets, hw 1 to 64 of A-Z a-z 0-9 . _ : -",
        act=hello,
    ),
    Check(
        name="nonce",
        title="makes a new nonce for each session",
        rule=f"{_PAGE}: Messages",
        advice="draw n anew from a random generator when a HELLO opens a session",
        act=_nonce,
        after=_HELLO,
    ),
    Check(
        name="repeat",
        title="answers a repeated call from its memory",
        rule=f"{_PAGE}: Messages",
        advice="keep the last answer with its s and q, and send it again, octet by octet",
        act=_repeated,
        after=_HELLO,
    ),
    Check(
        name="session",
        title="refuses a session that was never opened",
        rule=f"{_PAGE}: Messages",
        advice="compare s with that of the last HELLO, and answer rc 5",
        act=_session,
        after=_HELLO,
    ),
    Check(
        name="sequence",
        title="takes any q, in any order",
        rule=f"{_PAGE}: Messages",
        advice="q only names a call: compare it with the last one for equality, and echo it, 32 bits long",
        act=_sequence,
        after=_HELLO,
    ),
    Check(
        name="unknown-command",
        title="refuses a command that does not exist",
        rule=f"{_PAGE}: Messages",
        advice="answer rc 8 (unsupported), also as err: {group, rc}",
        act=_unknown,
        after=_HELLO,
    ),
    Check(
        name="noise",
        title="goes on after noise and log lines",
        rule=f"{_PAGE}: Framings",
        advice="skip whatever is no frame, up to the next newline or 00",
        act=_noise,
        after=_HELLO,
    ),
    Check(
        name="crc",
        title="obeys no frame with a wrong CRC",
        rule=f"{_PAGE}: Framings",
        advice="check the CRC16 before anything else, and stay silent",
        act=_broken,
        after=_HELLO,
    ),
    Check(
        name="cut-frame",
        title="goes on after half a frame",
        rule=f"{_PAGE}: Framings",
        advice="begin anew at each 06 09",
        act=_cut,
        after=_HELLO,
    ),
    Check(
        name="oversize",
        title="goes on after a line and a frame without end",
        rule=f"{_PAGE}: Framings",
        advice="drop what is longer than your buffer, and wait for the next beginning",
        act=_oversize,
        after=_HELLO,
    ),
    Check(
        name="length",
        title="obeys no message of another length than its header tells",
        rule=f"{_PAGE}: Framings",
        advice="compare the length in the SMP header with what came",
        act=_lengths,
        after=_HELLO,
    ),
    Check(
        name="cobs",
        title="answers COBS in COBS (may be left out)",
        rule=f"{_PAGE}: Framings",
        advice="COBS(message, CRC) 00, and answer in the framing that you were asked in",
        act=_cobs,
        after=_HELLO,
    ),
    Check(
        name="stock-clients",
        title="tells stock SMP clients the size of its buffer (may be left out)",
        rule=f"{_PAGE}: Messages",
        advice="answer group 0, command 6 with buf_size and buf_count",
        act=_stock,
        after=_HELLO,
    ),
)
