"""The ways to the server over a real network, each by its adapter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from device_agent.channels.est import EstAsker
from device_agent.channels.https import https_asker
from device_agent.channels.mqtt import MqttOptions, claim_link, operational_link
from device_agent.channels.recovery import recovery_asker
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
    Tunnel,
)


class NetworkWays:
    """MQTT for the bootstrap and the operational listener, HTTPS beside it and for recovery, EST."""

    def __init__(self, options: MqttOptions) -> None:
        self._options = options

    @asynccontextmanager
    async def claim(self, login: ClaimLogin) -> AsyncIterator[Asker]:
        """Open the bootstrap listener."""
        async with claim_link(login, options=self._options) as link:
            yield link

    @asynccontextmanager
    async def operational(self, login: OperationalLogin, listener: Listener) -> AsyncIterator[Link]:
        """Open the operational listener; the session there outlives the connection."""
        async with (
            _beside(login) as tunnel,
            operational_link(login, listener=listener, options=self._options, tunnel=tunnel) as link,
        ):
            yield link

    @asynccontextmanager
    async def https(self, login: HttpsLogin) -> AsyncIterator[Asker]:
        """Open the HTTPS listener with a certificate."""
        async with (
            _beside(login) as tunnel,
            https_asker(login, reply_timeout=self._options.reply_timeout, tunnel=tunnel) as asker,
        ):
            yield asker

    @asynccontextmanager
    async def recovery(self, login: RecoveryLogin) -> AsyncIterator[Asker]:
        """Open the recovery listener."""
        async with recovery_asker(login, reply_timeout=self._options.reply_timeout) as asker:
            yield asker

    def est(self, login: EstLogin) -> EstClient:
        """Return who asks an EST server."""
        return EstAsker(login, reply_timeout=self._options.reply_timeout)


@asynccontextmanager
async def _beside(login: OperationalLogin | HttpsLogin) -> AsyncIterator[Tunnel | None]:
    """Have TLS made by somebody else, where this process cannot."""
    if login.via is None:
        yield None
        return
    async with login.via.running(login.host, login.port) as tunnel:
        yield tunnel
