"""What a reply means to the life cycle's table; a problem becomes an error with what to do about it."""

from device_agent.core.events import Confirmed, Dead, DoneAck, Event, Reported
from device_agent.errors import AgentError, ChannelError, RefusedError
from device_agent.wire import replies
from device_agent.wire.problems import ProblemCode, Retry

_HINTS: dict[ProblemCode, str] = {
    ProblemCode.CODE_INVALID: "ask for a new code: fleet claim create --device ID",
    ProblemCode.CODE_CONFLICT: "another key has used this code; ask the operator: fleet device explain ID",
    ProblemCode.NOT_ALLOWED: "ask the operator: fleet device explain ID",
    ProblemCode.REVOKED: "the operator can readmit it with a new code: fleet claim create --device ID",
    ProblemCode.SUSPENDED: "the operator has suspended it: fleet device resume ID",
    ProblemCode.NOT_CURRENT: "this is a copy, or an older state of a device: fleet device explain ID",
    ProblemCode.FROZEN: "the operator must look at an alarm first: fleet device explain ID",
}


def heard(reply: replies.Reply) -> Event | replies.Issued:
    """Return an event, or an answer that must be judged first; raises `RefusedError`, `ChannelError`."""
    match reply:
        case replies.Issued():
            return reply
        case replies.Confirmed():
            return Confirmed(serial=reply.serial)
        case replies.DoneAck():
            return DoneAck(serial=reply.serial)
        case replies.Dead():
            return Dead(key_hash=reply.key_hash, attempt_floor=reply.attempt_floor)
        case replies.Status():
            return Reported(serial=reply.serial, state=reply.state, renew_after=reply.renew_after)
        case replies.Problem() | replies.Pending() | replies.Time() | replies.Challenge():
            raise _error(reply)


def _error(reply: replies.Problem | replies.Pending | replies.Time | replies.Challenge) -> AgentError:
    match reply:
        case replies.Problem():
            return RefusedError(
                f"the server refused, {reply.code}: {reply.detail}",
                code=reply.code,
                retry=reply.retry,
                retry_after_seconds=reply.retry_after_seconds,
                hint=_HINTS.get(reply.code),
                request=reply.id,
            )
        case replies.Pending():
            return RefusedError(
                f"the request waits for an approval, code {reply.code}",
                code=ProblemCode.NOT_ALLOWED,
                retry=Retry.LATER,
                retry_after_seconds=reply.retry_after_seconds,
                hint="compare the code with the operator's",
                request=reply.id,
            )
        case replies.Time() | replies.Challenge():
            return ChannelError(f"the server answered with {reply.kind} to another question")
