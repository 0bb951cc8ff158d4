"""Reads what the guard tells: lines of words parted by one space, strangers' words percent-encoded.

Pure. The guard is ours, and still every line is checked: what does not fit is a `MalformedWordsError`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from fleet.errors import FleetError
from fleet.grants import Action, TopicDecision
from fleet.model import BrokerEvent, BrokerEventKind, Session


class MalformedWordsError(FleetError):
    """A line of the guard that this version does not understand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What list the guard has in force. `run` names this run of the broker."""

    run: str
    generation: str
    sequence: int
    count: int
    digest: str
    stamp: int
    live: int
    reloads: int
    rules: str
    """SHA-256 of the rules in force, hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A session that an order ended, and the microseconds that the broker itself took for it."""

    name: str
    client_id: str
    serial: str
    took_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of the guard to one order; `error` is its code, or empty."""

    order_id: str
    error: str = ""
    status: Status | None = None
    dropped: tuple[Dropped, ...] = ()
    sessions: tuple[Session, ...] = ()
    more: bool = False


def read_event(line: str) -> BrokerEvent:
    """Return the event behind a line.

    Raises:
        MalformedWordsError: it is none.
    """
    match _words(line):
        case ["event", stamp, kind, issuer, serial, name, client_id, address, reason, at]:
            return BrokerEvent(
                kind=_kind(kind),
                stamp=_number(stamp),
                issuer=issuer,
                serial=serial,
                name=name,
                client_id=client_id,
                address=address,
                reason=reason,
                at=_time(_number(at) / 1000),
            )
        case _:
            raise MalformedWordsError("the guard sent an event that cannot be read")


def read_decision(line: str) -> TopicDecision:
    """Return the decision behind a line.

    Raises:
        MalformedWordsError: it is none.
    """
    match _words(line):
        case ["decision", name, "publish" | "subscribe" as action, "allowed" | "denied" as outcome, topic]:
            return TopicDecision(name=name, action=Action(action), topic=topic, allowed=outcome == "allowed")
        case _:
            raise MalformedWordsError("the guard sent a decision that cannot be read")


def read_reply(text: str, *, broker: str) -> Reply:
    """Return the reply behind a text; `broker` is put into its sessions.

    Raises:
        MalformedWordsError: it is none.
    """
    first, *rest = text.split("\n")
    lines = [_words(line) for line in rest]
    match _words(first):
        case [order_id, "error", code]:
            return Reply(order_id=order_id, error=code)
        case [order_id, "ok"]:
            return Reply(
                order_id=order_id,
                status=next((_status(line) for line in lines if line[0] == "status"), None),
                dropped=tuple(_dropped(line) for line in lines if line[0] == "dropped"),
                sessions=tuple(_session(line, broker) for line in lines if line[0] == "session"),
                more=["more"] in lines,
            )
        case _:
            raise MalformedWordsError("the guard sent a reply that cannot be read")


def _words(line: str) -> list[str]:
    return ["" if word == "-" else unquote(word) for word in line.split(" ")]


def _number(word: str) -> int:
    if word.isascii() and word.isdecimal() and len(word) <= 20:
        return int(word)
    raise MalformedWordsError("the guard sent a number that is none")


def _time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise MalformedWordsError("the guard sent a time that is none") from error


def _kind(word: str) -> BrokerEventKind:
    try:
        return BrokerEventKind(word)
    except ValueError as error:
        raise MalformedWordsError("the guard sent a kind of event that this version does not have") from error


def _status(line: list[str]) -> Status:
    match line:
        case [_, run, generation, sequence, count, digest, stamp, live, reloads, rules]:
            return Status(
                run=run,
                generation=generation,
                sequence=_number(sequence),
                count=_number(count),
                digest=digest,
                stamp=_number(stamp),
                live=_number(live),
                reloads=_number(reloads),
                rules=rules,
            )
        case _:
            raise MalformedWordsError("the guard sent a status that cannot be read")


def _dropped(line: list[str]) -> Dropped:
    match line:
        case [_, name, client_id, serial, took_us]:
            return Dropped(name=name, client_id=client_id, serial=serial, took_us=_number(took_us))
        case _:
            raise MalformedWordsError("the guard sent a cut-off that cannot be read")


def _session(line: list[str], broker: str) -> Session:
    match line:
        case [_, name, client_id, issuer, serial, address, connected_at]:
            return Session(
                broker=broker,
                name=name,
                client_id=client_id,
                issuer=issuer,
                serial=serial,
                address=address,
                connected_at=_time(_number(connected_at)),
            )
        case _:
            raise MalformedWordsError("the guard sent a session that cannot be read")
