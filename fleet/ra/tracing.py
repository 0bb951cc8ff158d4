"""What the use cases tell of the parts of their work, for traces; where nobody draws any it costs nothing."""

from types import TracebackType
from typing import Protocol, Self


class Span(Protocol):
    """A part of the work, from where it is entered to where it is left; parts may have parts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, **attributes: str | float | None) -> None:
        """Say something of it; what is empty is left out. Nothing secret."""
        ...


class Tracer(Protocol):
    """Takes spans. It never waits, and never raises."""

    def span(self, name: str) -> Span:
        """Return the next part of the work that is being done now."""
        ...


class _Nothing:
    """A span and a tracer that nobody looks at."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def note(self, **attributes: str | float | None) -> None:
        return

    def span(self, name: str) -> Self:
        return self


NO_TRACER = _Nothing()
"""For a server whose configuration names no collector."""
