"""One HTTP request and its answer, for adapters whose protocol runs over HTTP, and that do not serve it.

It holds what was read and what is to be written, and the one table from problem codes to statuses. It
decides nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import TypeAlias

from device_agent.wire.problems import ProblemCode
from device_agent.wire.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What came in, read whole and within its cap."""

    method: str
    path: str
    """Below the place where the adapter is mounted, decoded."""
    content_type: str = ""
    """As it was sent, parameters included."""
    authorization: Secret | None = None
    body: bytes = b""
    certificate: bytes | None = None
    """DER of the client certificate, whose chain TLS has verified."""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What goes out."""

    status: HTTPStatus
    content_type: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


HttpAnswerer: TypeAlias = Callable[[HttpRequest], Awaitable[HttpAnswer]]
"""Never raises."""

HTTP_STATUS: Mapping[ProblemCode, HTTPStatus] = MappingProxyType(
    {
        ProblemCode.MALFORMED: HTTPStatus.BAD_REQUEST,
        ProblemCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ProblemCode.UNSUPPORTED_VERSION: HTTPStatus.BAD_REQUEST,
        ProblemCode.UNSUPPORTED_TYPE: HTTPStatus.BAD_REQUEST,
        ProblemCode.BAD_CSR: HTTPStatus.BAD_REQUEST,
        ProblemCode.BAD_KEY: HTTPStatus.BAD_REQUEST,
        ProblemCode.KEY_IN_USE: HTTPStatus.CONFLICT,
        ProblemCode.BAD_IDENTITY: HTTPStatus.BAD_REQUEST,
        ProblemCode.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
        ProblemCode.CODE_INVALID: HTTPStatus.FORBIDDEN,
        ProblemCode.CODE_CONFLICT: HTTPStatus.CONFLICT,
        ProblemCode.NOT_CURRENT: HTTPStatus.CONFLICT,
        ProblemCode.UNKNOWN_DEVICE: HTTPStatus.NOT_FOUND,
        ProblemCode.REVOKED: HTTPStatus.FORBIDDEN,
        ProblemCode.SUSPENDED: HTTPStatus.FORBIDDEN,
        ProblemCode.FROZEN: HTTPStatus.CONFLICT,
        ProblemCode.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
        ProblemCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
        ProblemCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
"""One row a code: RFC 9110 15 chooses the status, the code stays the exact word."""
