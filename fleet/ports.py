"""What the use cases need from outside, as protocols. Each has one contract suite, run on every adapter."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias, TypeVar

from fleet.grants import Classes, TopicDecision
from fleet.model import Allowlist, AllowlistChange, BrokerEvent, CutOff, Session

Value: TypeAlias = str | int | float | bytes | None
"""What a column can hold; times are RFC 3339 text in UTC, so that they sort and an operator can read them."""
Row: TypeAlias = tuple[Value, ...]

_Result = TypeVar("_Result")
_Argument = TypeVar("_Argument")


class Clock(Protocol):
    """Tells the time; the composition root hands out the real one."""

    def __call__(self) -> datetime:
        """Return the time now, aware, in UTC."""
        ...


class Transaction(Protocol):
    """SQL inside one unit of work. Statements are portable (SQLite, PostgreSQL), parameters are `?`."""

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> int:
        """Run a statement; return the number of rows it changed."""
        ...

    async def execute_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run one statement for each row of parameters."""
        ...

    async def fetch_one(self, sql: str, parameters: Sequence[Value] = ()) -> Row | None:
        """Return the first row, or None."""
        ...

    async def fetch_all(self, sql: str, parameters: Sequence[Value] = ()) -> list[Row]:
        """Return all rows."""
        ...


Work: TypeAlias = Callable[[Transaction, _Argument], Awaitable[_Result]]
"""A unit of work: a module-level function of a transaction and one frozen argument, so that it can be
named, logged, and run by a writer in another process."""


class Store(Protocol):
    """Where the fleet's records live."""

    async def write(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        """Run a unit of work alone, commit it durably, and return its result.

        Units are judged one after another and may share one commit (group commit); one that raises is
        rolled back alone, and its exception comes back to its caller. After the return, the work
        survives a power cut.

        Raises:
            StorageFullError, StoreError: the commit failed.
        """
        ...

    async def read(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        """Run a unit of work that only reads, on a snapshot of what was committed."""
        ...

    async def search(self, work: Work[_Argument, _Result], argument: _Argument) -> _Result:
        """Run what somebody asks in his own words: as `read`, but bounded, and never in everybody's way.

        Raises:
            BadInputError: it takes too long here.
        """
        ...

    async def close(self) -> None:
        """Finish the units that were handed in, and let go of the files."""
        ...


class BrokerEnforcer(Protocol):
    """Makes one broker admit what the store admits, and nothing else."""

    async def replace(self, allowlist: Allowlist) -> None:
        """Make the whole set the broker's; sessions of all others are dropped."""
        ...

    async def change(self, change: AllowlistChange) -> Sequence[CutOff]:
        """Apply the next change, drop the sessions of what it removes, return their cut-offs.

        Raises:
            SequenceGapError: the change is not the next one; nothing was applied, send a snapshot.
            UnreachableError: the broker does not answer.
        """
        ...

    async def kick(self, name: str) -> Sequence[CutOff]:
        """Drop the live sessions of a broker name; they may come back."""
        ...

    async def sessions(self) -> Sequence[Session]:
        """Return the live sessions."""
        ...

    def events(self) -> AsyncIterator[BrokerEvent]:
        """Yield connections, refusals and ends, in the broker's order."""
        ...


class SupervisedBroker(BrokerEnforcer, Protocol):
    """A broker whose list the service keeps right, whatever happens to either of them."""

    async def doubtful(self) -> str:
        """Return why, each time that the broker's list is in doubt (start, restart, digest mismatch)."""
        ...

    async def stamp(self) -> int:
        """Return the highest stamp handed out so far; the next event has a higher one."""
        ...

    async def publish_crls(self, crls: Sequence[bytes]) -> None:
        """Give the broker the CRLs (DER) of all issuing CAs, for cause only: its second layer.

        Raises:
            FleetError: a CRL is not right, or the broker did not take it; the earlier ones stay in force.
        """
        ...

    async def govern(self, classes: Classes) -> None:
        """Put what certificates may do with topics in force, for those that are connected too.

        Raises:
            FleetError: the broker did not take it; the earlier ones stay in force.
        """
        ...

    def age(self) -> timedelta:
        """Return how long ago the broker's list was last proven equal to the store's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HookReply:
    """What a webhook answered; `signature` is its Fleet-Signature header, empty where it has none."""

    status: int
    signature: str
    body: bytes


class TellingBroker(Protocol):
    """A broker that tells what it decided, as far as it costs nothing."""

    def decisions(self) -> AsyncIterator[TopicDecision]:
        """Yield a sample: of each connection, each topic once, and some not at all."""
        ...


class HookCaller(Protocol):
    """The way to the webhook that the configuration names, and to no other place."""

    async def post(self, body: bytes, headers: Mapping[str, str]) -> HookReply:
        """Return its answer, whatever the status.

        Raises:
            UnreachableError: there was none in time, or it is longer than it may be.
        """
        ...
