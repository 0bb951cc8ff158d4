"""A connection by aiomqtt (2.5), with what it and paho leave undone when connecting fails.

It opens and closes, and no more: what goes over the connection is said in `mqtt`.
"""

import asyncio
import logging
import socket
import ssl
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device_agent.channels.unreached import unreached
from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import Tunnel
from device_agent.tls import DatedSocket

_log = logging.getLogger(__name__)
_paho_log = logging.getLogger(f"{__name__}.paho")
"""What paho has to say of each packet; what matters of it comes as an error."""

_LARGEST_PACKET = (1024 + 64) * 1024
"""More than any broker of the fleet hands on; MQTT 3.1.1 (2.2.3) would let a packet have 256 MiB."""
_CONNECTS_LOCALLY = "_create_unix_socket_connection"
"""The method by which paho (2.1) makes a local connection."""
_NOT_AUTHORIZED = (134, 135)
"""CONNACK 4 and 5 (MQTT 3.1.1 3.2.2.3), as paho numbers them after MQTT 5."""


class Session(Enum):
    """What the broker remembers between connections (MQTT 3.1.1 3.1.2.4)."""

    FRESH = auto()
    LASTING = auto()


class Connection:
    """One connection; `client` is to be used while it is open."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        client_id: str,
        tls: ssl.SSLContext,
        session: Session,
        keepalive: timedelta,
        timeout: timedelta,
        tunnel: Tunnel | None = None,
    ) -> None:
        """`tunnel` is where TLS is entered that somebody else makes; `tls` is of no use then."""
        tls.sslsocket_class = _Socket
        self._peer, self._tunnel = f"{host}:{port}", tunnel
        self.client: aiomqtt.Client = _Client(
            host if tunnel is None else str(tunnel.socket),
            port,
            transport="tcp" if tunnel is None else "unix",
            identifier=client_id,
            clean_session=session is Session.FRESH,
            keepalive=int(keepalive.total_seconds()),
            timeout=timeout.total_seconds(),
            tls_context=tls if tunnel is None else None,
            logger=_paho_log,
            # Without it, small packets wait for delayed acknowledgements.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)] if tunnel is None else [],
        )
        if tunnel is not None:
            # There is no public way to bound what is read from it.
            setattr(self.client._client, _CONNECTS_LOCALLY, lambda: _LocalSocket.at(tunnel.socket))
        # aiomqtt has no option for it, and paho's own would give up a slow line's handshake after 5 s.
        self.client._client.connect_timeout = timeout.total_seconds()

    async def open(self) -> None:
        """Connect.

        Raises:
            NotAdmittedError: the broker turned this certificate away.
            ChannelError: it cannot be reached, or is not the one that is trusted.
        """
        try:
            await _enter(self.client)
        except _ClosedError as error:
            # A certificate that expired, or is on the broker's CRL, ends in TLS, with no CONNACK.
            _drop(self.client)
            if self._tunnel is not None:
                await self._tunnel.require_tls()
            raise NotAdmittedError(
                f"{self._peer} closed the connection: another port, or a certificate that it does not admit"
            ) from error
        except MqttConnectError as error:
            _drop(self.client)
            if error.rc is not None and number_of(error.rc) in _NOT_AUTHORIZED:
                raise NotAdmittedError(f"{self._peer} does not admit this device now") from error
            raise ChannelError(f"{self._peer} refused the connection: {error}") from error
        except (aiomqtt.MqttError, ValueError) as error:
            _drop(self.client)
            raise unreached(f"cannot connect to {self._peer}", error) from error

    async def close(self) -> None:
        """Disconnect; whoever reads the messages gets what is left, and then the end."""
        try:
            await self.client.__aexit__(None, None, None)
        except aiomqtt.MqttError as error:
            _log.debug("the connection did not end as it should: %s", error)
            _drop(self.client)


def number_of(code: int | ReasonCode) -> int:
    """Return a return code as its number."""
    return code if isinstance(code, int) else int(code.value)


class _ClosedError(aiomqtt.MqttError):
    """The broker closed the connection instead of accepting it."""


class _Client(aiomqtt.Client):
    """Hears that a broker closes before it accepts; aiomqtt would wait for its time-out."""

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._connected.done():
            super()._on_disconnect(client, userdata, flags, reason_code, properties)
        else:
            self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if not self._connected.done():
            self._connected.set_exception(_ClosedError("closed before it was accepted"))
            self._connected.exception()  # nobody may be waiting any more, and that is no fault


class _Bounded(socket.socket):
    """paho asks at once for all that a packet announces."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        if buflen > _LARGEST_PACKET:
            raise ConnectionAbortedError(f"a packet of more than {_LARGEST_PACKET} bytes was announced")
        return super().recv(buflen, flags)


class _LocalSocket(_Bounded):
    """Where TLS is entered that another process makes."""

    @classmethod
    def at(cls, path: Path) -> "_LocalSocket":
        """Connect."""
        made = cls(socket.AF_UNIX, socket.SOCK_STREAM)
        made.connect(str(path))
        return made


class _Socket(_Bounded, DatedSocket):
    """paho leaves a socket open whose handshake failed."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (OSError, ValueError):
            self.close()
            raise


async def _enter(client: aiomqtt.Client) -> None:
    """Connect; when cancelled, wait for paho's thread, or the connection would be left behind."""
    entering = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        await asyncio.wait({entering})
        _drop(client)
        raise


def _drop(client: aiomqtt.Client) -> None:
    # aiomqtt leaves the socket of a failed connect to the broker's patience; there is no public way.
    left = client._client.socket()
    if isinstance(left, socket.socket):
        client._client.loop_misc()
        asyncio.get_running_loop().remove_reader(left.fileno())
        left.close()
