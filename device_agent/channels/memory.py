"""A network in memory for tests: real messages to a server in the same process, over a line that fails.

Requests and replies are encoded and parsed as on a wire. A fault is decided for each request by a plan:
what is lost is lost at once, so that no test waits for a time-out. It is no channel for a product.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from device_agent.core.certificates import read_bundle, read_leaf
from device_agent.core.events import Route
from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import (
    ClaimLogin,
    EstClient,
    EstLogin,
    HttpsLogin,
    Listener,
    OperationalLogin,
    RecoveryLogin,
)
from device_agent.wire.messages import encode, parse_reply, parse_request
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request


class Fault(StrEnum):
    """What the line does to one request."""

    NONE = "none"
    LOSE_REQUEST = "lose request"
    LOSE_REPLY = "lose reply"
    DUPLICATE = "duplicate"
    """The server sees the request twice; the second reply arrives."""
    DELAY = "delay"
    """The server sees the request only before the next one, and nobody waits for its reply."""
    CORRUPT = "corrupt"
    """A bit of the reply is another one."""
    CUT = "cut"
    """The server answers, and the connection ends before the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Who asks, as a server would know it: by listener, and by client id or certificate."""

    route: Route
    client: str = ""
    serial: str = ""


class Server(Protocol):
    """The other end."""

    def admits(self, login: OperationalLogin) -> bool:
        """Tell whether the operational listener takes this certificate now."""
        ...

    def answer(self, heard: Heard, request: Request) -> Reply:
        """Answer one request."""
        ...


class MemoryNetwork:
    """All ways to one server. `plan` gives the fault of each request, and nothing after its end."""

    def __init__(self, server: Server, *, plan: Iterator[Fault] | None = None) -> None:
        self._server = server
        self._plan: Iterator[Fault] = iter(()) if plan is None else plan
        self._delayed: list[Callable[[], object]] = []
        self._links: list[MemoryLink] = []
        self.published: list[tuple[str, bytes]] = []
        self.blocks_mqtt = False
        """Nothing but HTTPS gets through."""

    @asynccontextmanager
    async def claim(self, login: ClaimLogin) -> AsyncIterator["MemoryAsker"]:
        """Open the bootstrap listener."""
        yield MemoryAsker(self, Heard(route=Route.CLAIM, client=login.client))

    @asynccontextmanager
    async def operational(self, login: OperationalLogin, listener: Listener) -> AsyncIterator["MemoryLink"]:
        """Open the operational listener; raises `ChannelError`, `NotAdmittedError`."""
        if self.blocks_mqtt:
            raise ChannelError("cannot connect: MQTT is blocked")
        if not self._server.admits(login):
            raise NotAdmittedError("the server does not admit this device now")
        link = MemoryLink(self, Heard(route=Route.ACTIVE, serial=login.serial), listener)
        self._links.append(link)
        try:
            yield link
        finally:
            self._links.remove(link)
            link.end("closed")

    @asynccontextmanager
    async def https(self, login: HttpsLogin) -> AsyncIterator["MemoryAsker"]:
        """Open the HTTPS listener; no broker hears of it."""
        yield MemoryAsker(self, Heard(route=Route.ACTIVE, serial=login.serial))

    @asynccontextmanager
    async def recovery(self, login: RecoveryLogin) -> AsyncIterator["MemoryAsker"]:
        """Open the recovery listener; who asks is proven by the certificate and a signature."""
        login.sign(b"")
        yield MemoryAsker(self, Heard(route=Route.RECOVERY, serial=_serial_of(login)))

    def est(self, login: EstLogin) -> EstClient:
        """Nobody speaks EST here; raises `ChannelError`."""
        raise ChannelError(f"no EST at {login.server}")

    def follow(self, plan: Iterator[Fault]) -> None:
        """Let the line fail by this plan from now on."""
        self._plan = plan

    def deliver(self, topic: str, payload: bytes) -> None:
        """Send a message to whoever is connected."""
        for link in self._links:
            link.listener.message(topic, payload)

    def cut(self) -> None:
        """End every connection."""
        for link in self._links:
            link.end("the line was cut")

    def exchange(self, heard: Heard, request: Request) -> Reply:
        """Carry one request there and its reply back; raises `ChannelError`."""
        for late in self._delayed:
            late()
        self._delayed.clear()
        body = encode(request)
        fault = next(self._plan, Fault.NONE)
        if fault is Fault.DELAY:
            self._delayed.append(lambda: self._answer(heard, body))
        if fault in (Fault.DELAY, Fault.LOSE_REQUEST):
            raise ChannelError("no reply in time: the request was lost")
        if fault is Fault.DUPLICATE:
            self._answer(heard, body)
        reply = self._answer(heard, body)
        if fault is Fault.CUT:
            self.cut()
        if fault in (Fault.LOSE_REPLY, Fault.CUT):
            raise ChannelError("no reply in time: the reply was lost")
        return _read(reply, request, fault)

    def _answer(self, heard: Heard, body: bytes) -> bytes:
        return encode(self._server.answer(heard, parse_request(body)))


class MemoryAsker:
    """A way that is open."""

    def __init__(self, network: MemoryNetwork, heard: Heard) -> None:
        self._network, self._heard = network, heard

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request; raises `ChannelError`."""
        await asyncio.sleep(0)
        return self._network.exchange(self._heard, request)


class MemoryLink(MemoryAsker):
    """An operational connection."""

    def __init__(self, network: MemoryNetwork, heard: Heard, listener: Listener) -> None:
        super().__init__(network, heard)
        self.listener = listener
        self._ended = ""

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request; raises `ChannelError`."""
        self._require_open()
        return await super().ask(request)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message to whoever looks at `published`; a retained one replaces its topic's last."""
        self._require_open()
        if retain:
            self._network.published[:] = [held for held in self._network.published if held[0] != topic]
        self._network.published.append((topic, payload))

    async def subscribe(self, topic_filter: str) -> None:
        """Everything delivered arrives."""
        self._require_open()

    def end(self, why: str) -> None:
        """End this connection."""
        if not self._ended:
            self._ended = why
            self.listener.lost(why)

    def _require_open(self) -> None:
        if self._ended:
            raise ChannelError(f"the connection ended: {self._ended}")


def _read(reply: bytes, request: Request, fault: Fault) -> Reply:
    if fault is Fault.CORRUPT:
        middle = len(reply) // 2
        reply = reply[:middle] + bytes([reply[middle] ^ 0x80]) + reply[middle + 1 :]
    try:
        found = parse_reply(reply)
    except MalformedMessageError as error:
        raise ChannelError("no reply in time: what came cannot be read") from error
    if found.id != request.id:
        raise ChannelError("no reply in time: what came is for another request")
    return found


def _serial_of(login: RecoveryLogin) -> str:
    return read_leaf(read_bundle(login.certificate, most=1)[0]).serial
