"""One call at a time on the factory link: names it by (s, q), repeats it, tells when to give up.

A repeated call keeps its (s, q), so that the unit answers from its memory and does nothing twice; a
call that is cut anew gets a new q.
"""

from collections.abc import Callable, Sequence

from device_agent.wire.factory import MAX_SEQUENCE, SESSION_BYTES
from device_agent.wire.factory_calls import Call, CallId, encode_call, parse_answer
from device_agent.wire.factory_replies import Refusal, Reply
from device_agent.wire.factory_requests import Request
from device_agent.wire.framing import Frame, Framing, encode
from device_agent.wire.problems import MalformedMessageError
from fleet.station.link.pace import Pace
from fleet.station.link.steps import Send

_ANSWER_BYTES = 160
"""What a short answer takes on the line, about."""


class Caller:
    """The calls of one session."""

    def __init__(
        self,
        *,
        pace: Pace,
        group: int,
        framings: Sequence[Framing],
        randomness: Callable[[int], bytes],
    ) -> None:
        self.pace = pace
        self.session = randomness(SESSION_BYTES)
        self.calls = 0
        """Calls that were answered."""
        self.unreadable = ""
        """Why the last message that came could not be read."""
        self._group = group
        self._framings = tuple(framings)
        self._sequence = 0
        self._attempt = 0
        self._pending: Call | None = None
        self._expects = 0
        self._sent_bytes = 0

    def ask(self, request: Request, *, expects: int = _ANSWER_BYTES) -> Send:
        """Begin a call; `expects` is the length of its answer, in bytes."""
        self._sequence = self._sequence % MAX_SEQUENCE + 1
        call_id = CallId(session=self.session, sequence=self._sequence)
        self._pending = Call(id=call_id, request=request)
        self._expects = expects
        return self._send(self._pending)

    def again(self) -> Send | None:
        """Repeat the call as it was; None when there is none."""
        return self._send(self._pending) if self._pending else None

    def _send(self, call: Call) -> Send:
        message = encode_call(call, group=self._group)
        framing = self._framings[self._attempt % len(self._framings)]
        self._sent_bytes = len(encode(message, framing))
        seconds = self.pace.patience(
            call.request.command, wire_bytes=self._sent_bytes + self._expects, attempt=self._attempt
        )
        return Send(message=message, framing=framing, seconds=seconds)

    def fail(self) -> int:
        """Count an attempt that came to nothing; return how many there were since the last answer."""
        self._attempt += 1
        self.pace.timed_out()
        return self._attempt

    def length_of(self, request: Request) -> int:
        """Return how long the message of a request would be, in bytes."""
        call_id = CallId(session=self.session, sequence=MAX_SEQUENCE)
        return len(encode_call(Call(id=call_id, request=request), group=self._group))

    def answer(self, frame: Frame, *, after: float) -> Reply | Refusal | None:
        """Return what a frame answers to the call, or None if it is not the answer to it.

        `after` is the time since the call was sent, in seconds.
        """
        try:
            answer = parse_answer(frame.message, group=self._group)
        except MalformedMessageError as error:
            self.unreadable = str(error)
            return None
        if self._pending is None or not answer.answers(self._pending):
            return None
        wire_bytes = self._sent_bytes + len(encode(frame.message, frame.framing))
        latency = max(0.0, after - self.pace.wire_seconds(wire_bytes))
        self.pace.answered(self._pending.request.command, latency=latency)
        self._framings = (frame.framing,)
        self._pending = None
        self._attempt = 0
        self.calls += 1
        return answer.reply
