"""Tells of TLS handshakes that fail at our own listeners: why, and from where.

A handshake that fails reaches no application: OpenSSL says why, and the socket that accepted the connection
knew the address. It watches, and lets nobody in who would not be let in without it.
"""

import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

from fleet.core.causes import Cause, of_reason, of_verify_code

Told: TypeAlias = Callable[[Cause, str], None]
"""Called with the cause, and the address of who was refused."""

_peer: ContextVar[str] = ContextVar("_peer", default="")


class NotingSocket(socket.socket):
    """A listening socket that notes whom it accepts; asyncio serves each of them in a context of its own."""

    def accept(self) -> tuple[socket.socket, object]:
        accepted, address = super().accept()
        _peer.set(str(address[0]) if isinstance(address, tuple) else "")
        return accepted, address


def noting(listener: socket.socket) -> NotingSocket:
    """Return the same listening socket as one that notes whom it accepts; the one given is used no more."""
    blocking = listener.getblocking()
    found = NotingSocket(listener.family, listener.type, listener.proto, fileno=listener.detach())
    found.setblocking(blocking)
    return found


def watch(context: ssl.SSLContext, told: Told) -> None:
    """Make a server's context tell of each handshake that fails."""

    class Watched(ssl.SSLObject):
        """One connection's TLS."""

        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                told(cause_of(error), _peer.get())
                raise

    context.sslobject_class = Watched


def cause_of(error: ssl.SSLError) -> Cause:
    """Return why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return of_verify_code(error.verify_code)
    return of_reason(error.reason or "")
