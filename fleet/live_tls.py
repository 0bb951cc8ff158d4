"""TLS that is replaced while connections stay: a server's door, and a client that expects one name.

It judges nothing; whoever makes the contexts decides what they trust.
"""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from fleet.errors import FleetError
from fleet.home import KeyPairFiles
from fleet.pair_files import in_force


class Door:
    """A server's TLS. Each new connection gets the newest context; those that stand keep theirs."""

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        """Take what makes a context from the files as they are then; raises what that raises."""
        self._make = make
        self._newest = make()
        # Of the outer one counts how far a client certificate is asked for (SSL_set_SSL_CTX(3)): the same.
        self.context = make()
        # Called for every hello, also for one that names no server.
        self.context.sni_callback = self._take_newest

    def reload(self) -> None:
        """Make the context anew; where that fails, the earlier one stays."""
        self._newest = self._make()

    async def reload_tls(self) -> None:
        """Do as `reload`, for those who wait for it."""
        self.reload()

    def _take_newest(
        self, tls: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _outer: ssl.SSLContext
    ) -> None:
        tls.context = self._newest


def put_pair(context: ssl.SSLContext, pair: KeyPairFiles) -> None:
    """Make a context in use show another certificate, if it can be used at all.

    Raises:
        OSError, ssl.SSLError: the files are no pair; the context shows what it did.
    """
    # OpenSSL drops the key that it has before it finds that the next one does not fit.
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pair.certificate, pair.key)
    context.load_cert_chain(pair.certificate, pair.key)


class NamedContext(ssl.SSLContext):
    """A client's context that checks the server's certificate against one name, whatever address it calls."""

    expected = ""

    def wrap_socket(  # noqa: PLR0917 - the signature is that of ssl.SSLContext
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        return super().wrap_socket(
            sock,
            server_side,
            do_handshake_on_connect,
            suppress_ragged_eofs,
            server_hostname=self.expected,
            session=session,
        )


class OwnClient:
    """A client of our own: it expects one server's name, and shows one certificate; both may be replaced."""

    def __init__(self, *, host: str, trust: Path, files: KeyPairFiles) -> None:
        """Read the files; raises `FleetError`."""
        self._trust = trust
        self._files = files
        self.context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.expected = host
        self._shown = self._load()

    def reload(self) -> bool:
        """Read the files again; say whether new connections show another certificate.

        Raises:
            FleetError: they cannot be used; the context is as it was.
        """
        before, self._shown = self._shown, self._load()
        return before != self._shown

    def _load(self) -> bytes:
        files = in_force(self._files)
        try:
            shown = files.certificate.read_bytes()
            self.context.load_verify_locations(cafile=self._trust)
            put_pair(self.context, files)
        except (OSError, ssl.SSLError) as error:
            raise FleetError(
                f"the service's own certificate cannot be used: {files.certificate}",
                hint="restore it from a backup of the fleet home",
            ) from error
        return shown
