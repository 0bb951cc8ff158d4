"""Calls that go out: to public addresses, to those that are named, and to nothing inside of a network."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import UnreachableError
from fleet.outbound import PublicResolver, connected, is_public, require_public

INSIDE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2001:0:7f00:1:0:0:3fff:fdfd",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "192.88.99.1",
    "3fff::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_of_a_network_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


def test_an_address_in_the_digits_of_another_script_is_not_called() -> None:
    with pytest.raises(UnreachableError, match="ASCII"):
        require_public("\u2460\u2461\u2466.0.0.1", allowed=())


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1", "::ffff:1.1.1.1"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(address=st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_address_is_as_public_as_what_it_is_wrapped_in(address: IPv4Address) -> None:
    wrapped = [IPv6Address((0xFFFF << 32) + int(address)), IPv6Address((0x0064FF9B << 96) + int(address))]
    for each in wrapped:
        assert is_public(each) is is_public(address)


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name resolve to some addresses, as a resolver that somebody else controls could."""

    def answer(_host: object, port: object, *_rest: object, **_more: object) -> list[object]:
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (each, port, 0, 0) if ":" in each else (each, port),
            )
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


async def by_http(host: str) -> object:
    resolver = PublicResolver(("named.example",))
    try:
        return await resolver.resolve(host, 443)
    finally:
        await resolver.close()


async def by_socket(host: str) -> object:
    with await connected(host, 25, allowed=("named.example",)) as opened:
        return opened.getpeername()


@pytest.mark.parametrize("way", [by_http, by_socket])
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254"])
async def test_a_name_that_leads_inside_is_not_called_even_beside_a_public_address(
    monkeypatch: pytest.MonkeyPatch, way: Callable[[str], Awaitable[object]], address: str
) -> None:
    resolving(monkeypatch, "1.1.1.1", address)
    with pytest.raises(UnreachableError, match="not public"):
        await way("innocent.example")


async def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = 0

    def answer(*_asked: object, **_more: object) -> list[object]:
        nonlocal asked
        asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    async with server:
        with await connected("named.example", port, allowed=("Named.Example",)) as opened:
            assert opened.getpeername() == ("127.0.0.1", port)
    assert asked == 1
