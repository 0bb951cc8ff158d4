"""Units of work that wait for the writer, each with the one who waits for its result.

A unit is driven to its end in the writer's thread, without an event loop: one hop for a whole batch, where
a hop for each statement would cost ten times as much. So it may await its transaction, and nothing else.
"""

import asyncio
from typing import Generic, Protocol, TypeVar

from fleet.errors import StoreError
from fleet.ports import Transaction, Work

_Result = TypeVar("_Result")
_Argument = TypeVar("_Argument")


class Unit(Protocol):
    """What the writer sees of a unit of work, whatever it takes and returns."""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        ...

    @property
    def keeps(self) -> bool:
        """Whether what it did is to be kept: it ran through, and it is one that writes."""
        ...

    def run(self, tx: Transaction) -> None:
        """Do the work, and remember its result or its exception; never raises."""
        ...

    def settle(self) -> None:
        """Hand over what `run` remembered."""
        ...

    def fail(self, error: Exception) -> None:
        """Hand over an error instead: the commit failed, or there was none."""
        ...


class PendingUnit(Generic[_Argument, _Result]):
    """A unit of work, the future of its caller, and what became of it."""

    __slots__ = ("_argument", "_error", "_result", "_work", "_writes", "future")

    def __init__(self, work: Work[_Argument, _Result], argument: _Argument, *, writes: bool) -> None:
        self._work = work
        self._argument = argument
        self._writes = writes
        self._result: list[_Result] = []
        self._error: BaseException | None = None
        self.future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()

    @property
    def is_wanted(self) -> bool:
        return not self.future.done()

    @property
    def keeps(self) -> bool:
        return self._writes and bool(self._result)

    def run(self, tx: Transaction) -> None:
        try:
            self._result = [drive(self._work, tx, self._argument)]
        except BaseException as error:  # noqa: BLE001 - it is raised again where the caller waits
            self._error = error

    def settle(self) -> None:
        if self.future.done():
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result[0])

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def drive(work: Work[_Argument, _Result], tx: Transaction, argument: _Argument) -> _Result:
    """Run a unit of work to its end, here and now.

    Raises:
        StoreError: it awaited something that is not its transaction.
    """
    steps = work(tx, argument).__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: _Result = end.value
        return result
    steps.close()
    raise StoreError(
        "a unit of work awaited something outside of its transaction", hint="report this as a defect"
    )
