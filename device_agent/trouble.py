"""What went wrong, in one word: the server's problem codes, and words of our own where it has none.

The state topic, `status` and the ladder of recovery use the same words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.errors import (
    AgentError,
    ChannelError,
    KeyStoreError,
    NotAdmittedError,
    RefusedError,
    StateError,
    UnacceptableAnswerError,
)
from device_agent.journal import fields
from device_agent.wire.problems import RETRY_ADVICE, ProblemCode, Retry
from device_agent.wire.replies import ReportedState
from device_agent.wire.steps import Step, step_of

KEY_LOST = "key-lost"
DISCONNECTED = "disconnected"

_NOT_WANTED: Mapping[ReportedState, ProblemCode] = {
    ReportedState.REVOKED: ProblemCode.REVOKED,
    ReportedState.SUSPENDED: ProblemCode.SUSPENDED,
}
_WORDS: Mapping[type[AgentError], str] = {
    NotAdmittedError: "not-admitted",
    ChannelError: "unreachable",
    UnacceptableAnswerError: "unacceptable-answer",
    KeyStoreError: "key-store",
    StateError: "state",
}
"""Problems that the server has no code for; the first that fits."""
_OWN_STEPS: Mapping[str, Step] = {
    "not-admitted": Step.CONNECT,
    "unreachable": Step.CONNECT,
    DISCONNECTED: Step.CONNECT,
    "unacceptable-answer": Step.ACCEPT,
    "key-store": Step.KEEP,
    "state": Step.KEEP,
    KEY_LOST: Step.KEEP,
}


def word_of(error: AgentError) -> str:
    """Return the word for an error."""
    if isinstance(error, RefusedError):
        return error.code
    return next((word for kind, word in _WORDS.items() if isinstance(error, kind)), "failed")


def fields_of(error: AgentError) -> dict[str, object]:
    """Return what a log is told of an error: its word, its step, the id of the request, and what to do."""
    word, request = word_of(error), error.request if isinstance(error, RefusedError) else ""
    return fields(problem=word, step=failing_step(word) or "", request=request, hint=error.hint or "")


def failing_step(word: str) -> Step | None:
    """Return the step that a word belongs to, by the name that server and CLI have for it; None: any."""
    return step_of(word) or _OWN_STEPS.get(word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What is wrong, for people: where, since when, and what to do."""

    word: str
    text: str
    since: datetime
    hint: str | None = None

    @property
    def step(self) -> Step | None:
        """The failing step, where it is known."""
        return failing_step(self.word)


def trouble_of(error: AgentError | None, before: Trouble | None, *, now: datetime) -> Trouble | None:
    """Return what an attempt has left: the same problem as before has been there since then."""
    if error is None:
        return None
    return _lasting(Trouble(word=word_of(error), text=str(error), since=now, hint=error.hint), before)


def cut_off(why: str, before: Trouble | None, *, now: datetime) -> Trouble:
    """Return what a connection that ended by itself has left."""
    return _lasting(Trouble(word=DISCONNECTED, text=f"the connection ended: {why}", since=now), before)


def _lasting(now: Trouble, before: Trouble | None) -> Trouble:
    if before is None or before.word != now.word:
        return now
    return replace(now, since=before.since)


def may_pass(error: AgentError) -> bool:
    """Tell whether the same request may succeed a little later."""
    if isinstance(error, RefusedError):
        return error.retry is not Retry.NEVER
    return isinstance(error, ChannelError)


def require_wanted(state: ReportedState) -> None:
    """Raise `RefusedError` where what the server reports of a certificate means that it is not wanted."""
    if state in _NOT_WANTED:
        code = _NOT_WANTED[state]
        raise RefusedError(
            f"the server says that the certificate is {state}", code=code, retry=RETRY_ADVICE[code]
        )
