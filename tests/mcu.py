"""The firmware in QEMU as the device of a line: what the tests' `Wire` is for a unit in memory.

Power loss is QEMU killed at that moment; its flash is a file that stays.
"""

import select
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire import smp
from device_agent.wire.factory_calls import Call, CallId, encode_call, parse_answer
from device_agent.wire.framing import Decoder, Framing, encode_burst
from device_agent.wire.objects import ObjectId, ReadableId
from device_agent.wire.smp import DEFAULT_GROUP, OS_GROUP, Header, Op
from firmware_scripts.mcu.building import UnavailableError, Workshop, default_workshop
from firmware_scripts.mcu.emulator import Board, powered
from firmware_scripts.mcu.passport import Passport, flash_image
from fleet.station.link.cable import Noise
from tests.factory_line import FLOOR

_ANSWER_SECONDS = 20.0
_BAUD = 115200


@pytest.fixture(scope="session")
def firmware() -> Path:
    """The firmware as ELF, built once; what was built before is used again."""
    return ready_workshop().build()


def ready_workshop() -> Workshop:
    """Return where the firmware is built; where it cannot be, say so and skip, on CI too."""
    workshop = default_workshop()
    try:
        workshop.require()
    except UnavailableError as error:
        pytest.skip(f"the firmware is not tested: {error}")
    return workshop


def new_board(
    elf: Path, folder: Path, *, hardware_id: str = "hw-1", anchors: tuple[bytes, ...] = (FLOOR.anchor,)
) -> Board:
    """Return a unit as it comes from its maker."""
    board = Board(elf=elf, flash=folder / f"{hardware_id}.flash", folder=folder / hardware_id)
    board.prepare(flash_image(Passport(hardware_id=hardware_id, model="mps2-an386", anchors=anchors)))
    return board


class Power:
    """A unit that is switched on, and the socket that its line ends in."""

    def __init__(self, board: Board) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        path = board.folder / "line.sock"
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._running = powered(board, f"socket,path={path}")
        self.process: subprocess.Popen[bytes] = self._running.__enter__()
        self.line, _ = self._listener.accept()

    def cut(self) -> None:
        """Cut the power."""
        self._running.__exit__(None, None, None)
        self.line.close()
        self._listener.close()


@dataclass
class McuWire:
    """Carries whole bursts between a session and the firmware; waits only where an answer must come.

    `on_request` and `on_answer` see the number of each burst that goes and may swallow it: return False.
    """

    board: Board
    noise: float = 0.0
    seed: int = 0
    seconds: float = 0.0
    requests: int = 0
    timeouts: int = 0
    on_request: Callable[[int], bool] = lambda _number: True
    on_answer: Callable[[int], bool] = lambda _number: True
    boots: int = 1
    _power: Power = field(init=False)

    def __post_init__(self) -> None:
        self._out = Noise(self.noise, seed=2 * self.seed)
        self._back = Noise(self.noise, seed=2 * self.seed + 1)
        self._switch_on()

    def power_cycle(self) -> None:
        """Cut the power and give it back."""
        self._power.cut()
        self.boots += 1
        self._switch_on()

    def switch_off(self) -> None:
        """Cut the power for good."""
        self._power.cut()

    def exchange(self, burst: bytes) -> bytes:
        """Return what comes back for a burst, in bytes; nothing where it was lost."""
        self.requests += 1
        self._count(burst)
        if not self.on_request(self.requests):
            return b""
        arriving = self._out.spoil(burst)
        # What this side finds in the octets, the firmware finds too, and answers each of it.
        expected = len(self._sent.feed(arriving))
        self._power.line.sendall(arriving)
        answers = self._hear(expected)
        if not answers or not self.on_answer(self.requests):
            return b""
        self._count(answers)
        return self._back.spoil(answers)

    def _switch_on(self) -> None:
        self._sent, self._heard = Decoder(), Decoder()
        self._power = Power(self.board)

    def _hear(self, expected: int) -> bytes:
        answers = b""
        while expected > 0:
            ready, _, _ = select.select([self._power.line], [], [], _ANSWER_SECONDS)
            assert ready, "the firmware does not answer"
            octets = self._power.line.recv(4096)
            assert octets, "the firmware has gone"
            expected -= len(self._heard.feed(octets))
            answers += octets
        return answers

    def _count(self, octets: bytes) -> None:
        self.seconds += len(octets) * 10 / _BAUD


@contextmanager
def wired(board: Board, *, noise: float = 0.0, seed: int = 0) -> Iterator[McuWire]:
    """Switch a unit on for a while."""
    wire = McuWire(board, noise=noise, seed=seed)
    try:
        yield wire
    finally:
        wire.switch_off()


class Caller:
    """Asks the firmware whatever a test wants, over a clean line, past any station."""

    def __init__(self, wire: McuWire, *, session: bytes = b"by hand!") -> None:
        self._wire = wire
        self.session = session
        self._sequence = 0

    def ask(self, request: requests.Request) -> replies.Reply | replies.Refusal:
        """Return the reply to a request."""
        self._sequence += 1
        call = Call(id=CallId(session=self.session, sequence=self._sequence), request=request)
        message = self.exchange(encode_call(call, group=DEFAULT_GROUP))
        return parse_answer(message, group=DEFAULT_GROUP).reply

    def rc(self, request: requests.Request) -> int:
        """Return the rc of the reply to a request."""
        reply = self.ask(request)
        return reply.rc if isinstance(reply, replies.Refusal) else 0

    def hello(self) -> replies.HelloReply:
        """Open the session."""
        reply = self.ask(requests.Hello(nonce=bytes(16)))
        assert isinstance(reply, replies.HelloReply)
        return reply

    def csr(self, device_id: str) -> bytes:
        """Let the unit make a key for an id, and return its request."""
        ident = self.ask(requests.Ident(device_id=device_id))
        assert isinstance(ident, replies.IdentReply), ident
        piece = self.ask(requests.Read(object_id=ReadableId.CSR, offset=0, length=ident.length))
        assert isinstance(piece, replies.ReadReply)
        return piece.octets

    def write(self, objects: Mapping[ObjectId, bytes]) -> None:
        """Write objects whole."""
        for object_id, octets in objects.items():
            for at in range(0, len(octets), 1024):
                piece = requests.Write(object_id=object_id, offset=at, octets=octets[at : at + 1024])
                assert self.rc(piece) == 0

    def reset(self) -> None:
        """Reset the unit by the command that every SMP client has."""
        header = Header(op=Op.WRITE, group=OS_GROUP, sequence=1, command=5)
        self.exchange(smp.encode(header, {}))
        # The session that was open is gone when the unit is up again.
        self.session = b"anew" + self.session[:4]

    def exchange(self, message: bytes) -> bytes:
        """Return the message that answers a message."""
        octets = self._wire.exchange(encode_burst(message, Framing.COBS))
        (frame,) = Decoder().feed(octets)
        return frame.message


def caller_of(wire: McuWire) -> Caller:
    """Return a caller of a unit that is switched on; no noise, and nothing in between any more."""
    wire.on_request = wire.on_answer = lambda _number: True
    return Caller(wire)
