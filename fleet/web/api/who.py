"""Who asks the operators' API, and what each role may do.

The owner of the home comes through the socket that only he can open; everybody else by HTTPS with an
operator's certificate, looked up on every request. Whoever comes another way is nobody here.
"""

import socket
from dataclasses import dataclass

from aiohttp import web

from fleet.model import Role
from fleet.ra.context import Context
from fleet.ra.people.operators import LOCAL
from fleet.ra.people.recognise import recognise
from fleet.web.gate import peer_certificate

_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.SECURITY: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A person who may act, and how far."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Tell whether the operator's role holds another one: viewer < operator < security."""
        return _RANK[self.role] >= _RANK[role]


async def operator_of(request: web.Request, context: Context) -> Operator | None:
    """Return who asks, or None if the connection shows nothing.

    Raises:
        RefusedError: it shows a certificate that is no operator's, or no more.
    """
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        return Operator(name=LOCAL, role=Role.SECURITY)
    shown = peer_certificate(request)
    if shown is None:
        return None
    found = await recognise(context, shown)
    return Operator(name=found.name, role=found.role)
