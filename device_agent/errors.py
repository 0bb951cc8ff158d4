"""What can go wrong on the device; a class exists only if somebody handles it differently.

A message says what and which; a hint says what to do now. Neither holds a key, a code or a PIN.
"""

from enum import IntEnum

from device_agent.wire.problems import ProblemCode, Retry


class ExitCode(IntEnum):
    """Exit codes of every `device-agent` command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    BAD_INPUT = 6
    NEEDS_ATTENTION = 7


class AgentError(Exception):
    """Root of the tree; `hint` is an act that helps, or None."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ChannelError(AgentError):
    """The server could not be reached, or did not answer in time. Try again later."""


class NotAdmittedError(ChannelError):
    """The listener turned this credential away. Another way may be open; nothing is deleted."""


class RefusedError(AgentError):
    """The server answered with a problem. Nothing on the device changes because of it."""

    def __init__(
        self,
        message: str,
        *,
        code: ProblemCode,
        retry: Retry,
        retry_after_seconds: int | None = None,
        hint: str | None = None,
        request: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.request = request
        """The id of what was refused, by which the server's log and audit trail know it."""
        self.retry = retry
        self.retry_after_seconds = retry_after_seconds


class UnacceptableAnswerError(AgentError):
    """The server issued something that this device must not activate."""


class UntrustedBundleError(AgentError):
    """A trust bundle that this device must not believe; `word` says why, as the state topic has it."""

    def __init__(self, message: str, *, word: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.word = word


class UntrustedTimeError(AgentError):
    """A time that this device must not believe."""


class KeyStoreError(AgentError):
    """The key cannot be made, found or used."""


class StateError(AgentError):
    """The record of the device cannot be read or written."""


class LockedError(StateError):
    """Another agent process holds the record."""


class NotEnrolledError(AgentError):
    """There is no certificate yet."""


class BadInputError(AgentError):
    """A file or an argument is not what it should be."""


class UsageError(AgentError):
    """The command was called in a way that it has not."""


EXIT_CODES: dict[type[AgentError], ExitCode] = {
    AgentError: ExitCode.FAILED,
    ChannelError: ExitCode.UNREACHABLE,
    NotAdmittedError: ExitCode.REFUSED,
    RefusedError: ExitCode.REFUSED,
    UnacceptableAnswerError: ExitCode.REFUSED,
    UntrustedBundleError: ExitCode.REFUSED,
    UntrustedTimeError: ExitCode.REFUSED,
    KeyStoreError: ExitCode.FAILED,
    StateError: ExitCode.FAILED,
    LockedError: ExitCode.FAILED,
    NotEnrolledError: ExitCode.NOT_FOUND,
    BadInputError: ExitCode.BAD_INPUT,
    UsageError: ExitCode.USAGE,
}


def exit_code(error: AgentError) -> ExitCode:
    """Return the exit code of a command that ends with an error; an adapter's own counts as its base."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
