"""Enrolls a swarm ahead of a test, at no broker: each request as its bytes, answered by the real use case.

Everything but the connection is real: keys, requests, codes, judging, signing, the store and its trail.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from device_agent.ports import ClaimLogin, Listener, OperationalLogin
from device_agent.wire.messages import encode, parse_reply
from device_agent.wire.replies import Reply
from device_agent.wire.requests import Request
from fleet.ra import context as server
from fleet.ra.requests.answer import answer_body


class Ahead:
    """`Opening` into a server that runs in this process."""

    def __init__(self, context: server.Context) -> None:
        self._context = context

    @asynccontextmanager
    async def claim(self, login: ClaimLogin) -> AsyncIterator["AheadLink"]:
        yield AheadLink(
            self._context, server.Asker(listener=server.Listener.BOOTSTRAP, client_id=login.client)
        )

    @asynccontextmanager
    async def operational(self, login: OperationalLogin, _listener: Listener) -> AsyncIterator["AheadLink"]:
        asker = server.Asker(
            listener=server.Listener.OPERATIONAL, identity=login.identity, serial=login.serial
        )
        yield AheadLink(self._context, asker)


class AheadLink:
    """Asks as whom the channel would have proved."""

    def __init__(self, context: server.Context, asker: server.Asker) -> None:
        self._context, self._asker = context, asker

    async def ask(self, request: Request) -> Reply:
        return parse_reply(encode(await answer_body(self._context, self._asker, encode(request))))

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say nothing: the state is told again on the first real connection."""

    async def subscribe(self, topic_filter: str) -> None:
        """Hear nothing."""
