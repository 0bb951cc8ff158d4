"""Asks the webhook over HTTPS: one address, one try, no redirect, and no way into the inside of a network.

Names are resolved here, and what they resolve to is looked at before anything connects: an address that is
loopback, private or otherwise not public is used only for names that the configuration lists.
"""

import asyncio
import socket
import ssl
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, UnreachableError
from fleet.ports import HookReply
from fleet.proof_sections import WebhookConfig
from fleet.ra.webhook import MAX_ANSWER_BYTES, SIGNATURE

_SHORTEST_SECRET = 32
_LONGEST_SECRET = 1024
_MOST_HEADERS = 8 * 1024


class HttpsHookCaller:
    """`ports.HookCaller` over aiohttp; each question is a connection of its own."""

    def __init__(self, settings: WebhookConfig, *, root: Path) -> None:
        """Read the roots that the service is trusted by; raises `BadInputError`."""
        self._settings = settings
        self._tls = _tls(settings, root)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> HookReply:
        """Return the answer; raises `UnreachableError`."""
        seconds = self._settings.timeout.total_seconds()
        resolver = PublicResolver(self._settings.private_hosts)
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
                return await self._exchange(session, body, headers)
        except TimeoutError as error:
            raise UnreachableError(f"it did not answer within {seconds:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(f"it cannot be asked: {_words(error)}") from error

    async def _exchange(
        self, session: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str]
    ) -> HookReply:
        self._require_public_literal()
        async with session.post(
            self._settings.url, data=body, headers=headers, allow_redirects=False
        ) as response:
            found = await response.content.read(MAX_ANSWER_BYTES + 1)
            while len(found) <= MAX_ANSWER_BYTES and (more := await response.content.read(MAX_ANSWER_BYTES)):
                found += more
            if len(found) > MAX_ANSWER_BYTES:
                raise UnreachableError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
            signature = response.headers.get(SIGNATURE, "")
            return HookReply(status=response.status, signature=signature, body=found)

    def _require_public_literal(self) -> None:
        """Look at an address that stands in the URL itself: such a one is never resolved."""
        host = urlsplit(self._settings.url).hostname or ""
        try:
            address = ip_address(host)
        except ValueError:
            return
        if not _is_public(address) and host not in self._settings.private_hosts:
            raise UnreachableError(f"{host} is not a public address, and private_hosts does not name it")


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
                if not _is_public(ip_address(each["host"].partition("%")[0])):
                    raise UnreachableError(f"{host} has an address that is not public: see private_hosts")
        return found

    async def close(self) -> None:
        await self._inner.close()


def read_secret(settings: WebhookConfig, *, root: Path) -> Secret:
    """Return the secret that both sides sign with: the text of a file that its owner alone can read.

    Raises:
        BadInputError: there is none, it is too short, or others can read it.
    """
    path = root / settings.secret_file
    try:
        mode, content = path.stat().st_mode, path.read_bytes()[: _LONGEST_SECRET + 1]
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


def _tls(settings: WebhookConfig, root: Path) -> ssl.SSLContext:
    tls = ssl.create_default_context() if settings.trust is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.trust is not None:
        path = root / settings.trust
        try:
            tls.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise BadInputError(f"{path} holds no roots", hint="see trust in fleet.toml") from error
    return tls


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global and not address.is_multicast


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
