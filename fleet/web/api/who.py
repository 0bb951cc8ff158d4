"""Who asks the operators' API: the owner of the home, through the socket that only he can open.

Whoever comes another way is nobody here.
"""

import socket
from dataclasses import dataclass

from aiohttp import web

from fleet.model import Role

LOCAL = "local"
"""How the audit trail calls the owner of the home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A person who may act, and how far."""

    name: str
    role: Role


def operator_of(request: web.Request) -> Operator:
    """Return who asks.

    Raises:
        web.HTTPUnauthorized: the connection does not come through the home's socket, whose mode is 0600.
    """
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or connection.family != socket.AF_UNIX:
        raise web.HTTPUnauthorized
    return Operator(name=LOCAL, role=Role.SECURITY)
