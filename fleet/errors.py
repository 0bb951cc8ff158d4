"""What can go wrong on the server's side; a class exists only if somebody handles it differently.

A message says what and which; a hint says what to do now. Neither holds a key or a code.
"""

import logging
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from device_agent.wire.problems import ProblemCode


class ExitCode(IntEnum):
    """Exit codes of every `fleet` command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    BAD_INPUT = 6
    NEEDS_ATTENTION = 7


class FleetError(Exception):
    """Root of the tree; `hint` is a command or an act that helps, or None."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class RefusedError(FleetError):
    """Policy says no. `code` is what a device is told."""

    def __init__(
        self, message: str, *, hint: str | None = None, code: ProblemCode = ProblemCode.NOT_ALLOWED
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class RoleError(RefusedError):
    """An operator is one, and may not do this: no fault of his certificate."""


class NotFoundError(FleetError):
    """What was named is not there."""


class UnreachableError(FleetError):
    """A server, broker, token or port does not answer."""


class SequenceGapError(FleetError):
    """A change of the allowlist is not the next one; only a whole snapshot helps."""


class BadInputError(FleetError):
    """A file, an argument or a request is not what it should be."""


class UsageError(FleetError):
    """The command was called in a way that it has not."""


class StoreError(FleetError):
    """The store could not read or write; what was asked may or may not have happened."""


class StorageFullError(StoreError):
    """The disk is full; nothing of the request was kept."""


class NeedsAttentionError(FleetError):
    """The check itself worked, and what it found needs somebody."""


EXIT_CODES: dict[type[FleetError], ExitCode] = {
    FleetError: ExitCode.FAILED,
    RefusedError: ExitCode.REFUSED,
    RoleError: ExitCode.REFUSED,
    NotFoundError: ExitCode.NOT_FOUND,
    UnreachableError: ExitCode.UNREACHABLE,
    SequenceGapError: ExitCode.FAILED,
    BadInputError: ExitCode.BAD_INPUT,
    UsageError: ExitCode.USAGE,
    StoreError: ExitCode.FAILED,
    StorageFullError: ExitCode.FAILED,
    NeedsAttentionError: ExitCode.NEEDS_ATTENTION,
}

PROBLEM_CODES: dict[type[FleetError], ProblemCode] = {
    FleetError: ProblemCode.UNAVAILABLE,
    RoleError: ProblemCode.NOT_ALLOWED,
    NotFoundError: ProblemCode.UNKNOWN_DEVICE,
    UnreachableError: ProblemCode.UNAVAILABLE,
    SequenceGapError: ProblemCode.UNAVAILABLE,
    BadInputError: ProblemCode.MALFORMED,
    UsageError: ProblemCode.MALFORMED,
    StoreError: ProblemCode.UNAVAILABLE,
    StorageFullError: ProblemCode.UNAVAILABLE,
    NeedsAttentionError: ProblemCode.UNAVAILABLE,
}
"""`RefusedError` carries its own code."""


LOG_LEVELS: dict[type[FleetError], int] = {
    FleetError: logging.ERROR,
    RefusedError: logging.INFO,
    RoleError: logging.INFO,
    NotFoundError: logging.INFO,
    UnreachableError: logging.WARNING,
    SequenceGapError: logging.WARNING,
    BadInputError: logging.INFO,
    UsageError: logging.INFO,
    StoreError: logging.ERROR,
    StorageFullError: logging.CRITICAL,
    NeedsAttentionError: logging.WARNING,
}
"""What was refused is on the audit trail; a log is for what somebody has to mend."""

_Row = TypeVar("_Row")


def exit_code(error: FleetError) -> ExitCode:
    """Return the exit code of a command that ends with an error."""
    return _row(EXIT_CODES, error)


def problem_code(error: FleetError) -> ProblemCode:
    """Return what a device is told about an error."""
    return error.code if isinstance(error, RefusedError) else _row(PROBLEM_CODES, error)


def log_level(error: FleetError) -> int:
    """Return the level, as `logging` counts them, at which an error is logged."""
    return _row(LOG_LEVELS, error)


def _row(table: Mapping[type[FleetError], _Row], error: FleetError) -> _Row:
    """An adapter's own error counts as the nearest of its bases that has a row."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)
