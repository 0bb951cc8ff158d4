"""EST over HTTPS (RFC 7030, RFC 8951): CAs, the first certificate, the next one. A call is a connection.

A login goes only to the server that TLS has proven. No redirect is followed, so that neither a code nor a
certificate is shown to somebody else; what the answers hold, nobody here believes.
"""

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable
from datetime import timedelta

from device_agent.channels.http import Answer, Call, ClosedError, Peer
from device_agent.core.est import (
    ISSUED_HEADER,
    Place,
    certificates_in,
    retry_seconds,
    wants_link,
)
from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import EstIssued, EstLogin, EstReply, Linked
from device_agent.wire.problems import RETRY_ADVICE, MalformedMessageError, ProblemCode
from device_agent.wire.replies import Pending, Problem
from device_agent.wire.secret import Secret

_log = logging.getLogger(__name__)

PROBLEM_HEADER = "x-fleet-problem"
APPROVAL_HEADER = "x-fleet-approval-code"
_LONGEST_TOLD = 200
_CODES = {
    400: ProblemCode.BAD_CSR,
    401: ProblemCode.CODE_INVALID,
    403: ProblemCode.NOT_ALLOWED,
    404: ProblemCode.UNSUPPORTED_TYPE,
    409: ProblemCode.NOT_CURRENT,
    413: ProblemCode.TOO_LARGE,
    415: ProblemCode.UNSUPPORTED_TYPE,
    429: ProblemCode.RATE_LIMITED,
    501: ProblemCode.UNSUPPORTED_TYPE,
}
"""What a status means (RFC 7030 4.2.3); of others, 5xx may pass."""


class EstAsker:
    """Asks one server."""

    def __init__(self, login: EstLogin, *, reply_timeout: timedelta) -> None:
        self._login, self._timeout = login, reply_timeout
        self._peer = Peer(host=login.server.host, port=login.server.port, tls=login.tls)

    async def cacerts(self) -> tuple[bytes, ...]:
        """Return the server's CAs, DER; raises `ChannelError`, `NotAdmittedError`."""
        answer = await self._call("GET", "cacerts")
        if answer.status != 200:
            raise ChannelError(
                f"{self._login.server} answered {answer.status} and no CAs",
                hint="--est https://HOST/LABEL; a label is a domain of the fleet",
            )
        return self._certificates(answer)

    async def wants_link(self) -> bool:
        """Tell whether its CSR attributes ask for the link; one that has none does not."""
        answer = await self._call("GET", "csrattrs")
        return answer.status == 200 and wants_link(answer.body)

    async def enroll(self, request: Callable[[bytes], bytes], *, linked: Linked) -> EstReply:
        """Ask for the first certificate."""
        return self._heard(await self._call("POST", "simpleenroll", request, linked=linked))

    async def reenroll(self, request: Callable[[bytes], bytes], *, linked: Linked) -> EstReply:
        """Ask for the next certificate."""
        return self._heard(await self._call("POST", "simplereenroll", request, linked=linked))

    async def _call(
        self,
        method: str,
        operation: str,
        request: Callable[[bytes], bytes] | None = None,
        *,
        linked: Linked = Linked.NO,
    ) -> Answer:
        def body(tls: ssl.SSLObject) -> bytes:
            if request is None:
                return b""
            link = b"" if linked is Linked.NO else _link(tls)
            return base64.encodebytes(request(link))

        call = Call(
            start=f"{method} {self._login.server.path(operation)}",
            body=body,
            headers=self._headers() if request is not None else {},
        )
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                answer = await self._peer.exchange(call)
        except ClosedError as error:
            raise NotAdmittedError(
                f"{self._peer} closed the connection: a certificate that it does not admit, or another port"
            ) from error
        except TimeoutError as error:
            raise ChannelError(f"no answer to {operation} in time from {self._peer}") from error
        if 300 <= answer.status < 400:
            raise ChannelError(
                f"{self._login.server} answered {operation} with a redirect, which is not followed",
                hint="name the server itself: --est https://HOST/LABEL",
            )
        return answer

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        if self._login.password is not None:
            headers["Authorization"] = f"Basic {self._credentials(self._login.password)}"
        return headers

    def _credentials(self, password: Secret) -> str:
        """Return user and password as HTTP basic has them (RFC 7617 2)."""
        return base64.b64encode(f"{self._login.user}:{password.reveal()}".encode()).decode()

    def _heard(self, answer: Answer) -> EstReply:
        match answer.status:
            case 200:
                return EstIssued(certificates=self._certificates(answer), place=self._place(answer))
            case 202:
                code = self._told(answer.headers.get(APPROVAL_HEADER, ""))
                return Pending(id="-", retry_after_seconds=_retry(answer), code=code or "-")
            case status:
                return self._problem(status, answer)

    def _problem(self, status: int, answer: Answer) -> Problem:
        code = _code(answer.headers.get(PROBLEM_HEADER, "")) or _CODES.get(status, ProblemCode.UNAVAILABLE)
        waits = _retry(answer) if "retry-after" in answer.headers else None
        return Problem(
            id="-",
            code=code,
            detail=f"{status} {self._told(answer.body.decode('utf-8', 'replace'))}".strip(),
            retry=RETRY_ADVICE[code],
            retry_after_seconds=waits,
        )

    def _told(self, text: str) -> str:
        """Return what a server says to people, but nothing that repeats what it was told in secret."""
        password = self._login.password
        if password is not None:
            secrets = (password.reveal(), self._credentials(password))
            if any(secret in text for secret in secrets):
                return ""
        return _shown(text)

    def _certificates(self, answer: Answer) -> tuple[bytes, ...]:
        try:
            return certificates_in(answer.body)
        except MalformedMessageError as error:
            raise ChannelError(f"{self._login.server}: {error}") from error

    def _place(self, answer: Answer) -> Place | None:
        text = answer.headers.get(ISSUED_HEADER)
        try:
            return None if text is None else Place.parse(text)
        except MalformedMessageError as error:
            raise ChannelError(f"{self._login.server} says where to go in words that are none") from error


def _link(tls: ssl.SSLObject) -> bytes:
    """Return tls-unique (RFC 5929 3); empty where this connection has none."""
    if tls.version() == "TLSv1.3":
        # RFC 8446 C.5, RFC 9266 1: it is not defined there, and EST knows no other.
        _log.info("the server asks to link the request to the connection, which TLS 1.3 cannot: not linked")
        return b""
    return tls.get_channel_binding("tls-unique") or b""


def _code(word: str) -> ProblemCode | None:
    """Return a fleet's own word for what is wrong; another maker's server says none."""
    return ProblemCode(word) if word in ProblemCode.__members__.values() else None


def _retry(answer: Answer) -> int:
    return retry_seconds(answer.headers.get("retry-after", ""), date=answer.headers.get("date", ""))


def _shown(text: str) -> str:
    """Return the first line of a stranger's text, as far as it can be printed."""
    first = text.strip().partition("\n")[0].strip()
    return "".join(each for each in first if each.isprintable() and each.isascii())[:_LONGEST_TOLD]
