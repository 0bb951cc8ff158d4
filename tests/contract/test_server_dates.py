"""A server's dates are judged by what the device believes, on sockets and under asyncio alike."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from device_agent.core.clock import Moment, TimeSource
from device_agent.core.stored import read_anchors
from device_agent.tls import DatedContext, client_context, is_outdated
from tests.pki import Pki, pem_of, utc_now

NOW = utc_now()
DAY = timedelta(days=1)
PKI = Pki()
SERVER = PKI.server()
BEGIN, END = SERVER.certificate.not_valid_before_utc, SERVER.certificate.not_valid_after_utc

Connect = Callable[[ssl.SSLContext, ssl.SSLContext], None]


def at(now: datetime, source: TimeSource) -> Moment:
    return Moment(now=now, source=source, since=now, floor=now)


def context(moment: Moment | None, *, pki: Pki = PKI) -> ssl.SSLContext:
    return client_context(read_anchors(pem_of(pki.roots["fleet"].certificate).decode()), moment=moment)


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*SERVER.write(tmp_path, "server"))
    return made


def by_socket(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Connect as paho does."""
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        client.wrap_socket(here, server_hostname="localhost").close()
    finally:
        here.close()
        serving.join()


def by_asyncio(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Connect as the HTTPS channels do."""

    async def connect() -> None:
        served = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", ssl=server)
        port = served.sockets[0].getsockname()[1]
        async with served:
            _, writer = await asyncio.open_connection("localhost", port, ssl=client)
            writer.transport.abort()

    asyncio.run(connect())


WAYS = pytest.mark.parametrize("connect", [by_socket, by_asyncio])
KNOWN = pytest.mark.parametrize("source", [TimeSource.SIGNED, TimeSource.ELAPSED])


@WAYS
@KNOWN
def test_a_server_is_trusted_within_its_dates(
    connect: Connect, source: TimeSource, server: ssl.SSLContext
) -> None:
    connect(context(at(BEGIN, source)), server)
    connect(context(at(END, source)), server)


@WAYS
@KNOWN
@pytest.mark.parametrize("now", [BEGIN - DAY, END + DAY])
def test_a_server_is_not_trusted_outside_of_its_dates(
    connect: Connect, source: TimeSource, now: datetime, server: ssl.SSLContext
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(context(at(now, source)), server)


@WAYS
def test_where_only_a_floor_is_known_a_server_is_trusted_that_has_not_ended_before_it(
    connect: Connect, server: ssl.SSLContext
) -> None:
    connect(context(at(BEGIN - 300 * DAY, TimeSource.FLOOR)), server)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(context(at(END + DAY, TimeSource.FLOOR)), server)


@WAYS
def test_a_server_of_another_root_is_trusted_at_no_time(connect: Connect, server: ssl.SSLContext) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(context(at(NOW, TimeSource.FLOOR), pki=Pki()), server)


@WAYS
def test_a_server_that_passed_by_a_floor_is_outdated_once_the_time_is_known(
    connect: Connect, server: ssl.SSLContext
) -> None:
    made = context(at(BEGIN - DAY, TimeSource.FLOOR))
    connect(made, server)
    assert is_outdated(made, at(END + DAY, TimeSource.SIGNED))
    assert not is_outdated(made, at(NOW, TimeSource.SIGNED))


def test_a_chain_that_nobody_verified_does_not_pass() -> None:
    made = DatedContext(ssl.PROTOCOL_TLS_CLIENT)
    made.moment = at(NOW, TimeSource.SIGNED)
    with pytest.raises(ssl.SSLCertVerificationError, match="no chain"):
        made.judge([])


def test_a_system_clock_that_is_believed_is_left_to_the_library() -> None:
    assert type(context(at(NOW, TimeSource.SYSTEM))) is ssl.SSLContext
    assert type(context(None)) is ssl.SSLContext
