"""HTTPS to the recovery listener: no client certificate, a signature over a fresh nonce instead.

Each request is a connection and a proof of its own; it never shows the device's certificate in TLS.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from device_agent.channels.http import Peer, reply_of
from device_agent.errors import ChannelError
from device_agent.ports import RecoveryLogin
from device_agent.wire.fields import parse_object
from device_agent.wire.messages import encode
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.proofs import recovery_text
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request

_NONCE_PATH = "/api/v1/nonce"
_RECOVER_PATH = "/api/v1/recover"
_LONGEST_NONCE = 128


class RecoveryAsker:
    """Asks at the recovery listener; each request is a connection and a proof of its own."""

    def __init__(self, login: RecoveryLogin, *, reply_timeout: timedelta) -> None:
        self._login, self._timeout = login, reply_timeout
        self._peer = Peer(host=login.host, port=login.port, tls=login.tls)

    async def ask(self, request: Request) -> Reply:
        """Return the reply to this very request; raises `ChannelError`."""
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                answer = await self._peer.post(_RECOVER_PATH, await self._proof(encode(request)))
        except TimeoutError as error:
            raise ChannelError(f"no reply to {request.kind} in time from {self._peer}") from error
        return reply_of(answer, request, peer=self._peer)

    async def _proof(self, request: bytes) -> bytes:
        login = self._login
        nonce = await self._nonce()
        text = recovery_text(fleet=login.fleet, domain=login.domain, nonce=nonce, request=request)
        proof = {
            "request": base64.b64encode(request).decode(),
            "certificate": login.certificate,
            "nonce": nonce,
            "signature": base64.b64encode(login.sign(text)).decode(),
        }
        return json.dumps(proof).encode()

    async def _nonce(self) -> str:
        answer = await self._peer.get(_NONCE_PATH)
        try:
            return parse_object(answer.body).text("nonce", longest=_LONGEST_NONCE)
        except MalformedMessageError as error:
            raise ChannelError(f"{self._peer} answered {answer.status} and no nonce") from error


@asynccontextmanager
async def recovery_asker(login: RecoveryLogin, *, reply_timeout: timedelta) -> AsyncIterator[RecoveryAsker]:
    """Return the asker; nothing is connected before it is asked."""
    yield RecoveryAsker(login, reply_timeout=reply_timeout)
