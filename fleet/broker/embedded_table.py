"""What the embedded broker admits, and who is connected: the guard's part, in Python.

It judges by the allowlist and by `core.access` alone, and touches no socket but to close it.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from fleet.broker.listing import is_admissible
from fleet.broker.shown import Shown
from fleet.core import access
from fleet.core.access import ClientForm, Who
from fleet.errors import SequenceGapError
from fleet.grants import Action, Classes, TopicDecision
from fleet.model import (
    Allowlist,
    AllowlistChange,
    AllowlistEntry,
    BrokerEvent,
    BrokerEventKind,
    Purpose,
    Session,
)
from fleet.ports import Clock

BROKER = "embedded"
_MOST_EVENTS = 100_000
_MOST_DECISIONS = 10_000
_MOST_TOLD = 64
"""Decisions of one connection that are told."""
_LONGEST_TOLD = 256
_NOBODY = Shown(issuer="", serial="", fingerprint="", not_after=datetime.min.replace(tzinfo=UTC))

_TOLD = frozenset({Purpose.DEVICE, Purpose.BACKEND})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """A CONNECT that waits to be judged; `shown` is None where there was no readable certificate."""

    shown: Shown | None
    client_id: str
    keepalive_s: int
    clean_session: bool
    address: str


@dataclass(slots=True, kw_only=True, eq=False)
class Connection:
    """A live connection; `gone` is set when the last of it has been cleared away."""

    who: Who
    shown: Shown
    not_after: datetime
    address: str
    connected_at: datetime
    name: str
    """Of this connection alone, across runs too."""
    cut: Callable[[], None]
    """Closes the socket, now, without a word."""
    ended: bool = False
    reason: str = ""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    told: set[TopicDecision] = field(default_factory=set)
    """Decisions that were told of it."""

    def end(self, reason: str) -> None:
        """Let nothing more pass, and close."""
        if not self.ended:
            self.ended, self.reason = True, reason
            self.cut()


class Table:
    """The list in force, the live connections, and the events that they made."""

    def __init__(self, own: AllowlistEntry, *, clock: Clock, classes: Classes) -> None:
        """Begin with the service's own entry: the whole list is on its way."""
        self._clock = clock
        self._classes = classes
        self._sequence: int | None = None
        self._entries: Mapping[tuple[str, str], AllowlistEntry] = _by_key([own])
        self._names: frozenset[str] = frozenset({own.name})
        self._taken: frozenset[str] = self._names
        self._revoked: frozenset[tuple[str, str]] = frozenset()
        self._live: dict[str, Connection] = {}
        self.events: asyncio.Queue[BrokerEvent] = asyncio.Queue()
        self.decisions: asyncio.Queue[TopicDecision] = asyncio.Queue(_MOST_DECISIONS)
        # Nanoseconds, as the guard counts: no run has that many events, so later ones are higher.
        self.stamp = int(clock().timestamp() * 1_000_000) * 1000
        self._run = secrets.token_hex(8)

    @property
    def listed(self) -> bool:
        """Say whether a whole list is in force."""
        return self._sequence is not None

    @property
    def live(self) -> tuple[Connection, ...]:
        return tuple(self._live.values())

    def find(self, client_id: str) -> Connection | None:
        """Return the live connection that uses a client id."""
        return self._live.get(client_id)

    def replace(self, allowlist: Allowlist) -> list[Connection]:
        """Put a whole list into force; return the connections that it ended."""
        self._take(_by_key(allowlist.entries), allowlist.sequence)
        return self._end_unlisted()

    def change(self, change: AllowlistChange) -> list[Connection]:
        """Put the next change into force, all of it or nothing; return the connections that it ended.

        Raises:
            SequenceGapError: it is not the next one, or does not fit.
        """
        if self._sequence is None or change.sequence != self._sequence + 1:
            raise SequenceGapError(f"change {change.sequence} does not follow the broker's list")
        added, removed = _by_key(change.added), _by_key(change.removed)
        staying = {key: entry for key, entry in self._entries.items() if key not in removed}
        if added.keys() & staying.keys() or removed.keys() - self._entries.keys():
            raise SequenceGapError(f"change {change.sequence} does not fit the broker's list")
        self._take({**staying, **added}, change.sequence)
        return self._end_unlisted() if removed else []

    def govern(self, classes: Classes) -> None:
        """Put what certificates may do in force."""
        self._classes = classes
        for connection in self.live:
            connection.told.clear()

    def may_publish(self, who: Who, topic: str) -> bool:
        """Say whether a connection may publish to a topic name."""
        allowed = access.may_publish(who, topic, classes=self._classes)
        self._tell_of(who, TopicDecision(name=who.name, action=Action.PUBLISH, topic=topic, allowed=allowed))
        return allowed

    def may_receive(self, who: Who, topic: str) -> bool:
        """Say whether a message on a topic name may be delivered to a connection."""
        return access.may_receive(who, topic, classes=self._classes)

    def may_subscribe(self, who: Who, topic_filter: str) -> bool:
        """Say whether a connection may subscribe to a topic filter."""
        allowed = access.may_subscribe(who, topic_filter, classes=self._classes)
        self._tell_of(
            who, TopicDecision(name=who.name, action=Action.SUBSCRIBE, topic=topic_filter, allowed=allowed)
        )
        return allowed

    def revoke(self, keys: Iterable[tuple[str, str]]) -> list[Connection]:
        """Refuse these (issuer, serial) whatever the allowlist says: the second layer."""
        self._revoked = frozenset(keys)
        return self._end_unlisted()

    def end_expired(self) -> None:
        """End the connections whose certificate is over."""
        now = self._clock()
        for connection in self.live:
            if now >= connection.not_after:
                connection.end("expired")

    def named(self, name: str) -> list[Connection]:
        """Return the live connections of a user name."""
        return [connection for connection in self.live if connection.who.name == name]

    def judge(self, knock: Knock) -> Who | str:
        """Return who knocks, or why they are refused. An old connection with the client id may still live."""
        reason, entry = self._why_not(knock.shown)
        if reason or entry is None or knock.shown is None:
            return reason
        who = Who(
            purpose=entry.purpose,
            name=entry.name,
            serial=knock.shown.serial,
            client_id=knock.client_id,
            access=entry.access,
        )
        manner = access.why_not(who, keepalive_s=knock.keepalive_s, clean_session=knock.clean_session)
        if manner is not None:
            return manner
        rule = access.connect_rule(who)
        if rule is not None and rule.form is ClientForm.OTHER and self._is_somebodys(who.client_id):
            return "client-id"
        if rule is not None and rule.alone and knock.client_id in self._live:
            return "client-id-taken"
        return who

    def admit(self, who: Who, knock: Knock, *, cut: Callable[[], None]) -> Connection:
        """Remember a connection and tell of it. The client id must be free."""
        shown = knock.shown or _NOBODY
        entry = self._entries[(shown.issuer, shown.serial)]
        connection = Connection(
            who=who,
            shown=shown,
            not_after=min(entry.not_after, shown.not_after),
            address=knock.address,
            connected_at=self._clock(),
            name=f"{self._run}-{self.stamp + 1}",  # as its event will be stamped
            cut=cut,
        )
        self._live[who.client_id] = connection
        self._tell(
            BrokerEventKind.CONNECTED,
            shown,
            name=who.name,
            client_id=who.client_id,
            address=knock.address,
            reason="",
        )
        return connection

    def refuse(self, knock: Knock, reason: str) -> None:
        """Tell that a connection was refused."""
        shown = knock.shown or _NOBODY
        entry = self._entries.get((shown.issuer, shown.serial))
        name = entry.name if entry else ""
        self._tell(
            BrokerEventKind.REFUSED,
            shown,
            name=name,
            client_id=knock.client_id,
            address=knock.address,
            reason=reason,
        )

    def forget(self, connection: Connection) -> None:
        """Tell that a connection is over, and wake whoever waits for that."""
        if self._live.get(connection.who.client_id) is connection:
            del self._live[connection.who.client_id]
        who = connection.who
        self._tell(
            BrokerEventKind.DISCONNECTED,
            connection.shown,
            name=who.name,
            client_id=who.client_id,
            address=connection.address,
            reason=connection.reason,
        )
        connection.gone.set()

    def who_is(self, client_id: str, *, name: str) -> tuple[Who, ...]:
        """Return as whom a client id may act: its live connection, else every certificate of its name.

        Without a connection there is a kept session, or a will: judged by the name alone, as long as the
        allowlist holds a certificate of it.
        """
        connection = self._live.get(client_id)
        if connection is not None:
            return () if connection.ended else (connection.who,)
        if name not in self._names:
            return ()
        return tuple(
            who
            for entry in self._entries.values()
            if entry.name == name
            for who in [_who_of(entry, client_id)]
            if access.why_not(who, keepalive_s=1, clean_session=True) is None
        )

    def sessions(self) -> tuple[Session, ...]:
        """Return the live sessions."""
        return tuple(
            Session(
                broker=BROKER,
                name=connection.who.name,
                client_id=connection.who.client_id,
                issuer=connection.shown.issuer,
                serial=connection.shown.serial,
                address=connection.address,
                connected_at=connection.connected_at,
            )
            for connection in self.live
            if not connection.ended
        )

    def _take(self, entries: Mapping[tuple[str, str], AllowlistEntry], sequence: int) -> None:
        self._entries, self._sequence = entries, sequence
        self._names = frozenset(entry.name for entry in entries.values())
        self._taken = _connecting_names(entries.values())
        for connection in self.live:
            entry = entries.get((connection.shown.issuer, connection.shown.serial))
            if entry is not None and entry.access != connection.who.access:
                connection.who = replace(connection.who, access=entry.access)
                connection.told.clear()

    def _tell_of(self, who: Who, decision: TopicDecision) -> None:
        """Put a decision among those that are told, if it is the first of its kind on its connection."""
        connection = self._live.get(who.client_id)
        protocols = decision.allowed and decision.topic.startswith(f"{access.RESERVED}/")
        if connection is None or who.purpose not in _TOLD or protocols or len(decision.topic) > _LONGEST_TOLD:
            return
        if decision not in connection.told and len(connection.told) < _MOST_TOLD:
            connection.told.add(decision)
            if not self.decisions.full():
                self.decisions.put_nowait(decision)

    def _is_somebodys(self, client_id: str) -> bool:
        """Say whether a client id is a name by which somebody connects, or a part of one."""
        words = client_id.split(".")
        return any(".".join(words[:count]) in self._taken for count in range(1, len(words) + 1))

    def _why_not(self, shown: Shown | None) -> tuple[str, AllowlistEntry | None]:
        if shown is None:
            return "no-certificate", None
        key = (shown.issuer, shown.serial)
        entry = self._entries.get(key)
        if entry is None:
            return "unlisted", None
        if not hmac.compare_digest(entry.fingerprint, shown.fingerprint):
            return "fingerprint", None
        if key in self._revoked:
            return "revoked", None
        over = self._clock() >= min(entry.not_after, shown.not_after)
        return ("expired", None) if over else ("", entry)

    def _end_unlisted(self) -> list[Connection]:
        ended = [
            connection
            for connection in self.live
            if not connection.ended and self._why_not(connection.shown)[1] is None
        ]
        for connection in ended:
            connection.end("removed")
        return ended

    def _tell(
        self, kind: BrokerEventKind, shown: Shown, *, name: str, client_id: str, address: str, reason: str
    ) -> None:
        self.stamp += 1
        if self.events.qsize() >= _MOST_EVENTS:
            _log.error("an event of the broker is lost: nobody reads them")
            return
        event = BrokerEvent(
            kind=kind,
            stamp=self.stamp,
            issuer=shown.issuer,
            serial=shown.serial,
            name=name,
            client_id=client_id,
            address=address,
            reason=reason,
            at=self._clock(),
        )
        self.events.put_nowait(event)


def _who_of(entry: AllowlistEntry, client_id: str) -> Who:
    return Who(
        purpose=entry.purpose,
        name=entry.name,
        serial=entry.serial,
        client_id=client_id,
        access=entry.access,
    )


def _connecting_names(entries: Iterable[AllowlistEntry]) -> frozenset[str]:
    """Return the names that are client ids as well: all but those of claims, whose clients choose theirs."""
    return frozenset(entry.name for entry in entries if entry.purpose is not Purpose.CLAIM)


def _by_key(entries: Iterable[AllowlistEntry]) -> dict[tuple[str, str], AllowlistEntry]:
    """Return the entries that a broker can admit, by what they are found by."""
    return {(entry.issuer, entry.serial): entry for entry in entries if is_admissible(entry)}
