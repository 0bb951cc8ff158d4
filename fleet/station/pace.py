"""How much goes into one call, and how long its answer may take: both follow the line.

A time-out halves the pieces, six clean calls double them again, never beyond what the device takes.
"""

from device_agent.wire.factory import DEFAULT_MESSAGE, MAX_CHUNK_BYTES, Command

SMALLEST_CHUNK = 24
CLEAN_CALLS_TO_GROW = 6
MESSAGE_OVERHEAD = 64
"""What header, envelope and the other members of a READ or WRITE take at most."""

_BITS_A_BYTE = 10
"""Start bit, eight data bits, stop bit."""
_GROWTH = 1.3
_MOST_GROWTH = 2.5

ALLOWANCE_SECONDS: dict[Command, float] = {
    Command.HELLO: 0.25,
    Command.ATTEST: 0.6,
    Command.IDENT: 0.8,
    Command.READ: 0.2,
    Command.WRITE: 0.2,
    Command.INSTALL: 0.6,
    Command.PROVE: 0.5,
    Command.COMMIT: 0.5,
    Command.ABORT: 0.2,
    Command.STATUS: 0.25,
}
"""What a device may need beside the time on the line. Being too short costs little: the question is asked
again under the same (s, q), and the answer that was already on its way counts."""


class Pace:
    """Of one session on one line of `baud` bits a second."""

    __slots__ = ("_baud", "_clean", "_largest_chunk", "chunk")

    def __init__(self, *, baud: int) -> None:
        self._baud = baud
        self._clean = 0
        self._largest_chunk = DEFAULT_MESSAGE - MESSAGE_OVERHEAD
        self.chunk = self._largest_chunk
        """Bytes of an object that go into one READ or WRITE now."""

    def allow(self, largest_message: int) -> None:
        """Take what HELLO told about the longest message."""
        self._largest_chunk = min(largest_message - MESSAGE_OVERHEAD, MAX_CHUNK_BYTES - MESSAGE_OVERHEAD)
        self.chunk = self._largest_chunk

    def answered(self) -> None:
        """A call went through."""
        self._clean += 1
        if self._clean >= CLEAN_CALLS_TO_GROW:
            self._clean = 0
            self.chunk = min(self.chunk * 2, self._largest_chunk)

    def timed_out(self) -> None:
        """A call did not."""
        self._clean = 0
        self.chunk = max(self.chunk // 2, SMALLEST_CHUNK)

    def fits(self, message_bytes: int) -> bool:
        """Return whether one message of that length is wise now."""
        return message_bytes <= self.chunk + MESSAGE_OVERHEAD

    def patience(self, command: Command, *, wire_bytes: int, attempt: int) -> float:
        """Return how many seconds to wait for an answer; `wire_bytes` counts question and answer."""
        growth = min(_GROWTH**attempt, _MOST_GROWTH)
        return ALLOWANCE_SECONDS[command] * growth + wire_bytes * _BITS_A_BYTE / self._baud
