"""How much goes into one call, and how long its answer may take: both follow the line.

A time-out halves the pieces, six clean calls double them again, never beyond what the device takes.
"""

from device_agent.wire.factory import DEFAULT_MESSAGE, MAX_CHUNK_BYTES, Command

SMALLEST_CHUNK = 64
"""Below it the envelope outweighs the piece: even with one wrong bit in 1,000, less would go through."""
CLEAN_CALLS_TO_GROW = 6
MESSAGE_OVERHEAD = 64
"""What header, envelope and the other members of a READ or WRITE take at most."""

_BITS_A_BYTE = 10
"""Start bit, eight data bits, stop bit."""
_SHORTEST_SECONDS = 0.04
"""USB adapters keep bytes back for 16 ms, each way."""
_FIRST_GUESS_SECONDS = 0.2
_LATENCY_MARGIN = 3
_GROWTH = 1.3
_MOST_GROWTH = 2.5
_DOUBLINGS = 6

LONGEST_SECONDS: dict[Command, float] = {
    Command.IDENT: 4.0,
    Command.INSTALL: 3.0,
    Command.PROVE: 2.0,
    Command.COMMIT: 2.0,
    Command.ASK: 4.0,
    Command.HEAR: 3.0,
}
"""Calls in which a device makes keys, verifies, signs or writes its flash, and how long one may take."""


class Pace:
    """Of one session on one line of `baud` bits a second."""

    __slots__ = ("_baud", "_clean", "_largest_chunk", "_latency", "chunk")

    def __init__(self, *, baud: int) -> None:
        self._baud = baud
        self._clean = 0
        self._latency = _FIRST_GUESS_SECONDS / _LATENCY_MARGIN
        self._largest_chunk = DEFAULT_MESSAGE - MESSAGE_OVERHEAD
        self.chunk = self._largest_chunk
        """Bytes of an object that go into one READ or WRITE now."""

    def allow(self, largest_message: int) -> None:
        """Take what HELLO told about the longest message."""
        self._largest_chunk = min(largest_message - MESSAGE_OVERHEAD, MAX_CHUNK_BYTES - MESSAGE_OVERHEAD)
        self.chunk = self._largest_chunk

    def answered(self, command: Command, *, latency: float) -> None:
        """A call went through; `latency` is what its answer took beside the time on the line, in seconds."""
        self._clean += 1
        if self._clean >= CLEAN_CALLS_TO_GROW:
            self._clean = 0
            self.chunk = min(self.chunk * 2, self._largest_chunk)
        if command not in LONGEST_SECONDS:
            # Rises at once, falls slowly.
            self._latency = max(latency, self._latency * 0.7)

    def timed_out(self) -> None:
        """A call did not."""
        self._clean = 0
        self.chunk = max(self.chunk // 2, SMALLEST_CHUNK)

    def fits(self, message_bytes: int) -> bool:
        """Return whether one message of that length is wise now."""
        return message_bytes <= self.chunk + MESSAGE_OVERHEAD

    def patience(self, command: Command, *, wire_bytes: int, attempt: int) -> float:
        """Return how many seconds to wait for an answer; `wire_bytes` counts question and answer.

        Being too short costs little: the question is asked again under the same (s, q), and the answer
        that was already on its way counts. So long calls begin with little and double it, over and over:
        a device that is slow is caught late in a round, a line that is noisy early in the next.
        """
        quick = min(max(self._latency * _LATENCY_MARGIN, _SHORTEST_SECONDS), _FIRST_GUESS_SECONDS)
        if command in LONGEST_SECONDS:
            doubled = 2.0 * quick * 2.0 ** (attempt % _DOUBLINGS)
            allowance = min(doubled, LONGEST_SECONDS[command])
        else:
            allowance = quick * float(min(_GROWTH**attempt, _MOST_GROWTH))
        return allowance + self.wire_seconds(wire_bytes)

    def wire_seconds(self, octets: int) -> float:
        """Return how long so many bytes take on the line."""
        return octets * _BITS_A_BYTE / self._baud
