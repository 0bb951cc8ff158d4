"""The ways of one simulated device to its server: MQTT by the light client, and what may be wrong with it.

What is wrong happens where it would on a device: to its network, TLS or key store, never inside the agent.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from typing import Protocol

from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import (
    Asker,
    ClaimLogin,
    EstClient,
    EstLogin,
    HttpsLogin,
    Link,
    Listener,
    OperationalLogin,
    RecoveryLogin,
)
from device_agent.wire.replies import Issued, Reply
from device_agent.wire.requests import Renew, Request
from device_agent.wire.topics import EnrollTopics, OperationalTopics
from tests.swarm.link import LightLink, Login, light_link

_CLAIM_KEEPALIVE = 15


class Mode(StrEnum):
    """How a device behaves."""

    WELL = "well"
    BREAKS = "breaks"
    """Cannot connect with any certificate but the one that it has now, and goes on with that."""
    VANISHES = "vanishes"
    """Is never seen again once it was given a new certificate."""
    LATE = "late"
    """As that, until it comes back."""
    REFUSES = "refuses"
    """Never asks for a renewal."""
    KEYLESS = "keyless"
    """Cannot make another key, and says so in its state."""


class Opening(Protocol):
    """Where the connections of a device come from, but for what is wrong with it."""

    def claim(self, login: ClaimLogin) -> AbstractAsyncContextManager[Asker]:
        """Open the bootstrap listener."""
        ...

    def operational(self, login: OperationalLogin, listener: Listener) -> AbstractAsyncContextManager[Link]:
        """Open the operational listener."""
        ...


class OverMqtt:
    """Real connections."""

    @asynccontextmanager
    async def claim(self, login: ClaimLogin) -> AsyncIterator[LightLink]:
        topics = EnrollTopics(client=login.client)
        found = Login(
            host=login.host,
            port=login.port,
            client_id=login.client,
            request_topic=topics.request,
            response_topic=topics.response,
            tls=login.tls,
            keepalive=_CLAIM_KEEPALIVE,
        )
        async with light_link(found) as link:
            yield link

    @asynccontextmanager
    async def operational(self, login: OperationalLogin, listener: Listener) -> AsyncIterator[LightLink]:
        topics = OperationalTopics(identity=login.identity, serial=login.serial)
        found = Login(
            host=login.host,
            port=login.port,
            client_id=login.identity.name,
            request_topic=topics.request,
            response_topic=topics.response,
            tls=login.tls,
            is_lasting=True,
        )
        async with light_link(found, listener) as link:
            yield link


class SwarmWays:
    """`Ways` of one device."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.mode = Mode.WELL
        self.is_gone = False
        self._works_with: str | None = None

    def fail(self, mode: Mode, *, serial: str) -> None:
        """Behave so from now on; `serial` is the certificate in use."""
        self.mode, self._works_with = mode, serial

    def come_back(self) -> None:
        """Be there again, and well."""
        self.mode, self.is_gone, self._works_with = Mode.WELL, False, None

    @asynccontextmanager
    async def claim(self, login: ClaimLogin) -> AsyncIterator[Asker]:
        async with self.opening.claim(login) as asker:
            yield asker

    @asynccontextmanager
    async def operational(self, login: OperationalLogin, listener: Listener) -> AsyncIterator[Link]:
        if self.is_gone:
            raise ChannelError("this device is gone")
        if self.mode is Mode.BREAKS and login.serial != self._works_with:
            # As a library that cannot do the handshake: the broker closes.
            raise NotAdmittedError("this device cannot use its new certificate")
        async with self.opening.operational(login, listener) as link:
            yield _Troubled(link, self)

    def https(self, login: HttpsLogin) -> AbstractAsyncContextManager[Asker]:
        """MQTT is the only way out of here; raises `ChannelError`."""
        raise ChannelError(f"no HTTPS to {login.host}")

    def recovery(self, login: RecoveryLogin) -> AbstractAsyncContextManager[Asker]:
        """As `https`."""
        raise ChannelError(f"no HTTPS to {login.host}")

    def est(self, login: EstLogin) -> EstClient:
        """As `https`."""
        raise ChannelError(f"no EST at {login.server}")


class _Troubled:
    """A connection of a device that may go wrong."""

    def __init__(self, link: Link, ways: SwarmWays) -> None:
        self._link, self._ways = link, ways

    async def ask(self, request: Request) -> Reply:
        ways = self._ways
        if ways.mode is Mode.REFUSES and isinstance(request, Renew):
            raise ChannelError("this device renews nothing")
        reply = await self._link.ask(request)
        if ways.mode in (Mode.VANISHES, Mode.LATE) and isinstance(reply, Issued):
            ways.is_gone = True
            if isinstance(self._link, LightLink):
                self._link.abort()
            raise ChannelError("this device is gone")
        return reply

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await self._link.publish(topic, payload, retain=retain)

    async def subscribe(self, topic_filter: str) -> None:
        await self._link.subscribe(topic_filter)
