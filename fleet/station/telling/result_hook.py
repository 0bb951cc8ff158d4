"""Results to a factory's system over HTTP: posted until it says that it has them, each with an id of its own.

A 2xx means that it has it, and so does 409: it had it before. 4xx means that it does not want this one; all
else means later. Signed with a shared secret, as the server's own webhook is: HMAC-SHA256 over time and body.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, UnreachableError
from fleet.station.telling.book import Job, Kind

SIGNATURE = "Fleet-Signature"
IDEMPOTENCY = "Idempotency-Key"
_KIND = b"fleet-station-result-v1"
_TRY_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PATIENCE = aiohttp.ClientTimeout(total=10)


class ResultHook:
    """A `Courier` to a URL."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        secret: Secret | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._http, self._url, self._secret, self._clock = http, url, secret, clock

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, url: str, *, secret: Secret | None, clock: Callable[[], datetime]
    ) -> AsyncIterator[Self]:
        """Open the way; nothing is connected before it is needed."""
        async with aiohttp.ClientSession(timeout=_PATIENCE) as http:
            yield cls(http, require_url(url), secret=secret, clock=clock)

    @property
    def kind(self) -> Kind:
        return Kind.HOOK

    @property
    def at_once(self) -> int:
        return 16

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[str]:
        """Post each; raises UnreachableError when one of them must come again."""
        found = await asyncio.gather(*(self._post(job) for job in jobs), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return [one for one in found if isinstance(one, str)]

    async def _post(self, job: Job) -> str:
        body = job.body.encode()
        headers = {"Content-Type": "application/json", IDEMPOTENCY: job.id}
        if self._secret is not None:
            headers[SIGNATURE] = signed(self._secret, at=int(self._clock().timestamp()), body=body)
        try:
            async with self._http.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError("the factory's system does not answer") from error
        if status < HTTPStatus.MULTIPLE_CHOICES or status == HTTPStatus.CONFLICT:
            return ""
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TRY_LATER:
            return f"the factory's system answers {status}"
        raise UnreachableError(f"the factory's system answers {status}")


def signed(secret: Secret, *, at: int, body: bytes) -> str:
    """Return the signature header of a result; `at` counts seconds since 1970."""
    text = b"\0".join((_KIND, str(at).encode(), body))
    return f"t={at},v1={hmac.digest(secret.reveal().encode(), text, hashlib.sha256).hex()}"


def require_url(url: str) -> str:
    """Return a URL that results may go to: HTTPS, or HTTP on this machine.

    Raises:
        BadInputError: it is none of both.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL):
        return url
    raise BadInputError(
        f"results go over https, or to this machine: not to {url!a}", hint="https://mes.example/results"
    )
