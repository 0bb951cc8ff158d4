"""HTTPS with the device's own certificate: what is asked on the operational connection, where there is none.

Either the connection is lent to another program, or MQTT does not get through. Each request is a
connection of its own, so that a reply to `confirm` proves that the certificate opens one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from device_agent.channels.http import ClosedError, Peer, reply_of
from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import HttpsLogin, Tunnel
from device_agent.wire.messages import encode
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request


class HttpsAsker:
    """Asks at the HTTPS listener, by the route that is named as the request is."""

    def __init__(self, login: HttpsLogin, *, reply_timeout: timedelta, tunnel: Tunnel | None) -> None:
        socket = None if tunnel is None else tunnel.socket
        self._peer = Peer(host=login.host, port=login.port, tls=login.tls, socket=socket)
        self._timeout, self._tunnel = reply_timeout, tunnel

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request.

        Raises:
            NotAdmittedError: it was closed instead of answered, as TLS does to a certificate that it refuses.
            ChannelError: no reply.
        """
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                answer = await self._peer.post(f"/api/v1/{request.kind}", encode(request))
        except ClosedError as error:
            if self._tunnel is not None:
                await self._tunnel.require_tls()
            why = f"{self._peer} closed the connection: a certificate that it does not admit, or another port"
            raise NotAdmittedError(why) from error
        except TimeoutError as error:
            raise ChannelError(f"no reply to {request.kind} in time from {self._peer}") from error
        return reply_of(answer, request, peer=self._peer)


@asynccontextmanager
async def https_asker(
    login: HttpsLogin, *, reply_timeout: timedelta, tunnel: Tunnel | None = None
) -> AsyncIterator[HttpsAsker]:
    """Return the asker; nothing is connected before it is asked."""
    yield HttpsAsker(login, reply_timeout=reply_timeout, tunnel=tunnel)
