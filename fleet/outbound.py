"""Calls out to places that an operator has named, and to no other: never into the inside of a network.

A name is resolved here, what it resolves to is looked at, and just that address is connected to. One that is
loopback, private, link-local or otherwise not public is used only for names that the configuration lists.
Redirects are not followed, and proxies of the environment not asked.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, UnreachableError

_SHORTEST_SECRET = 32
_LONGEST_SECRET = 1024
_MOST_HEADERS = 8 * 1024
_TRANSLATED = IPv6Network("64:ff9b::/96")
"""NAT64 (RFC 6052 2.1): the last 32 bits are an IPv4 address."""
_RESERVED = (IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))
"""Relays that are gone (RFC 7526), and documentation (RFC 9637): older Pythons call them public."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given out for the Internet (RFC 4291 2.4); nothing else leads there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One HTTPS address, and what of its network may be entered."""

    url: str
    timeout: timedelta
    trust: Path | None = None
    """Roots of its certificate, PEM; None takes the system's."""
    private_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was answered: status, headers, and as much of the body as was to be read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpsPoster:
    """Posts to one target; each post is a connection of its own."""

    def __init__(self, target: Target, *, root: Path) -> None:
        """Read the roots that the target is trusted by; raises `BadInputError`."""
        self._target = target
        self._tls = client_tls(target.trust, root=root)

    async def post(self, body: bytes, headers: Mapping[str, str], *, most: int) -> Answered:
        """Return the answer, whatever its status; of its body up to `most` bytes, and no more may come.

        Raises:
            UnreachableError: there was none in time, it is too long, or the address is not to be called.
        """
        seconds = self._target.timeout.total_seconds()
        resolver = PublicResolver(self._target.private_hosts)
        connector = aiohttp.TCPConnector(ssl=self._tls, resolver=resolver, force_close=True)
        try:
            async with (
                asyncio.timeout(seconds),
                aiohttp.ClientSession(
                    connector=connector,
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    max_line_size=_MOST_HEADERS,
                    max_field_size=_MOST_HEADERS,
                ) as session,
            ):
                return await self._exchange(session, body, headers, most)
        except TimeoutError as error:
            raise UnreachableError(f"it did not answer within {seconds:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(f"it cannot be asked: {_words(error)}") from error

    async def _exchange(
        self, session: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str], most: int
    ) -> Answered:
        # A literal address is never resolved: it is looked at here.
        require_public(urlsplit(self._target.url).hostname or "", allowed=self._target.private_hosts)
        async with session.post(
            self._target.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            return Answered(
                status=response.status,
                headers=response.headers,
                body=await _read(response.content, most) if most else b"",
            )


async def _read(content: aiohttp.StreamReader, most: int) -> bytes:
    found = await content.read(most + 1)
    while len(found) <= most and (more := await content.read(most)):
        found += more
    if len(found) > most:
        raise UnreachableError(f"its answer is longer than {most} bytes")
    return found


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses, and the named ones to any."""

    def __init__(self, private_hosts: Collection[str]) -> None:
        self._private = {host.lower() for host in private_hosts}
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return where a name is; raises `UnreachableError` where one of them is none to be asked."""
        found = await self._inner.resolve(host, port, family)
        if host.lower() not in self._private:
            for each in found:
                _require_public_address(host, each["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


async def connected(host: str, port: int, *, allowed: Collection[str]) -> socket.socket:
    """Return a socket that is connected to a name: to the very address that was looked at.

    Raises:
        UnreachableError: nothing answers there, or it is no address to be called.
    """
    require_public(host, allowed=allowed)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableError(f"{host} cannot be found: {_words(error)}") from error
    if host.lower() not in {each.lower() for each in allowed}:
        for *_, place in found:
            _require_public_address(host, str(place[0]))
    reason = "it has no address"
    for family, kind, protocol, _, place in found:
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, place)
        except OSError as error:
            opened.close()
            reason = _words(error)
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    raise UnreachableError(f"{host}:{port} cannot be reached: {reason}")


def require_public(host: str, *, allowed: Collection[str]) -> None:
    """Refuse a literal address that is not public, unless it is named; names are looked at once resolved.

    Raises:
        UnreachableError: it is none to be called.
    """
    if not host.isascii():
        # Digits of other scripts are an address to who connects, and none to who looks.
        raise UnreachableError("the name of a host is written in ASCII: xn--... where it is not")
    try:
        address = ip_address(host)
    except ValueError:
        return
    if not is_public(address) and host.lower() not in {each.lower() for each in allowed}:
        raise UnreachableError(f"{host} is not a public address, and private_hosts does not name it")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is one of the open Internet, and so is every one that it carries inside."""
    if any(address in each for each in _RESERVED):
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    inside = _inside(address)
    if any(not is_public(each) for each in inside):
        return False
    is_wrapped = address.ipv4_mapped is not None or address in _TRANSLATED
    return is_wrapped or (address in _GLOBAL_UNICAST and address.is_global)


def _inside(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses to which a network may send what is sent to an IPv6 address."""
    carried = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
    found = tuple(each for each in carried if each is not None)
    return (*found, IPv4Address(int(address) & 0xFFFFFFFF)) if address in _TRANSLATED else found


def client_tls(trust: Path | None, *, root: Path) -> ssl.SSLContext:
    """Return the TLS of a client, 1.2 or later, by the system's roots or by those of a file.

    Raises:
        BadInputError: the file holds no roots.
    """
    tls = ssl.create_default_context() if trust is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust is not None:
        path = root / trust
        try:
            tls.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise BadInputError(f"{path} holds no roots", hint="see trust in fleet.toml") from error
    return tls


def read_shared_secret(file: Path, *, root: Path) -> Secret:
    """Return the secret that both sides sign with: the text of a file that its owner alone can read.

    Raises:
        BadInputError: there is none, it is too short, or others can read it.
    """
    path = root / file
    try:
        with path.open("rb") as opened:
            mode, content = os.fstat(opened.fileno()).st_mode, opened.read(_LONGEST_SECRET + 1)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise BadInputError(
            f"{path} cannot be read: {reason}", hint="see secret_file in fleet.toml"
        ) from error
    if mode & 0o077:
        raise BadInputError(f"others than its owner may read {path}", hint=f"chmod 600 {path}")
    text = content.decode("utf-8", "replace").strip()
    if not _SHORTEST_SECRET <= len(text) <= _LONGEST_SECRET:
        raise BadInputError(
            f"the secret in {path} must have {_SHORTEST_SECRET} characters or more",
            hint=f"openssl rand -hex 32 > {path}",
        )
    return Secret(text)


def _require_public_address(host: str, address: str) -> None:
    if not is_public(ip_address(address.partition("%")[0])):
        raise UnreachableError(f"{host} has an address that is not public: see private_hosts")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
