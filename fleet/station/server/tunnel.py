"""TLS by stunnel beside a station whose key is in a token: Python's own takes keys from files only.

One stunnel serves the station as long as it works. It signs in the token by OpenSSL's engine for PKCS#11, and
is entered by a socket that the station's user alone can open. What it is told, the PIN with it, goes through
memory that has no name: no command line, no file. It ends with the station; one that was killed is followed
by another at the next request. Where it cannot work nothing is sent: no key in a file takes its place.
"""

import asyncio
import os
import re
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from typing import TYPE_CHECKING, Self

import aiohttp

from fleet.errors import BadInputError, FleetError, UnreachableError

if TYPE_CHECKING:
    from fleet.ca.token import LentKey, TokenSigner

_HINT = "apt-get install stunnel4 libengine-pkcs11-openssl"
_TIE = "setpriv"
"""Of util-linux: has the kernel end its child with us, however we end (PR_SET_PDEATHSIG, prctl(2))."""
_START_SECONDS, _LOG_SECONDS, _STOP_SECONDS = 10.0, 2.0, 2.0
_LONGEST_LINE = 1 << 20
"""Of its log: the names in a stranger's certificate stand there, and OpenSSL takes 100 kB of certificates."""
_MOST_COMPLAINTS = 20
_READY, _BEGINS = "Accepting new connections", ("accepted connection", "s_connect: connected")
_PIN_REFUSED = re.compile(r"PIN (?:incorrect|invalid|len range)", re.IGNORECASE)
_COMPLAINT = re.compile(r"(?:\[!\]|[0-9.]+ [0-9:]+ LOG[0-4]\[[^]]*\]:) (.*)")
"""A line of a warning or worse (syslog(3)), before it has read its configuration, and after."""
_HARMLESS = "ENGINE_ctrl_cmd", "Unhandled error library", "error queue:"
"""The engine is asked for a certificate first, and has none; what was queued is told below in full."""
_SAFE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""What a line of its configuration keeps as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenServer:
    """A server elsewhere, for a station with its key in a token; `trust` (DER) is what it is believed by."""

    host: str
    port: int
    trust: tuple[bytes, ...]
    chain: tuple[bytes, ...]
    key: "TokenSigner" = field(repr=False)


class Tunnel:
    """The way into TLS; a middleware of aiohttp, which starts stunnel where none runs."""

    def __init__(self, server: TokenServer, socket: Path) -> None:
        self.socket = socket
        self._server = server
        self._turn = asyncio.Lock()
        self._child: _Child | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, server: TokenServer) -> AsyncIterator[Self]:
        """Start stunnel; the server is not asked before it is needed.

        Raises:
            FleetError: the token does not let us in, or stunnel cannot be started.
        """
        with tempfile.TemporaryDirectory(prefix="fleet-station-") as folder:
            tunnel = cls(server, Path(folder, "tls.sock"))
            try:
                await tunnel._running()
                yield tunnel
            finally:
                if tunnel._child is not None:
                    await tunnel._child.stop()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request through stunnel; raises `UnreachableError`, which says why."""
        try:
            child = await self._running()
        except FleetError as error:
            raise UnreachableError(f"the server cannot be asked: {error}", hint=error.hint) from error
        try:
            return await handler(request)
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(
                f"{self._server.host}:{self._server.port} does not answer by stunnel: {await child.why()}",
                hint="is `fleet serve` running there, and does --trust name its trust/server.pem",
            ) from error

    async def _running(self) -> "_Child":
        async with self._turn:
            if self._child is None or not self._child.is_alive:
                self._child = await self._started()
            await self._child.ready()
            return self._child

    async def _started(self) -> "_Child":
        program = _program("stunnel4", "stunnel", package=_HINT)
        tie = _program(_TIE, package="apt-get install util-linux")
        lent = await asyncio.to_thread(self._server.key.lend)
        self.socket.unlink(missing_ok=True)  # of one that was killed
        with ExitStack() as stack:
            chain, trust = (
                stack.enter_context(_memory(_pem(ders))) for ders in (self._server.chain, self._server.trust)
            )
            told = stack.enter_context(
                _memory(_configuration(self._server, self.socket, lent, chain=chain, trust=trust))
            )
            try:
                process = await asyncio.create_subprocess_exec(
                    *(tie, "--pdeathsig", "TERM", program, "-fd", str(told)),
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=PIPE,
                    pass_fds=(told, chain, trust),
                    umask=0o177,
                    cwd=self.socket.parent,  # it would try a key's URI as the name of a file, too
                    limit=_LONGEST_LINE,
                )
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise FleetError(f"stunnel does not start: {reason}", hint=_HINT) from error
        return _Child(process, lent)


class _Child:
    """A running stunnel, and what it complains of."""

    def __init__(self, process: Process, lent: "LentKey") -> None:
        self._process = process
        self._lent = lent
        self._complaints: list[str] = []
        self._is_ready, self._has_complained = asyncio.Event(), asyncio.Event()
        self._follower = asyncio.create_task(self._follow())

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and not self._follower.done()

    async def ready(self) -> None:
        """Wait until it can be entered; a PIN that it was refused is given to nobody again.

        Raises:
            FleetError: it does not start.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._is_ready.wait()
        if self.is_alive and self._is_ready.is_set():
            return
        await self.stop()
        if any(_PIN_REFUSED.search(complaint) for complaint in self._complaints):
            self._lent.refused()
        raise FleetError(f"stunnel does not start: {await self.why()}", hint=_HINT)

    async def why(self) -> str:
        """Return what it complained of first since the last connection: the rest follows from that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOG_SECONDS):
                await self._has_complained.wait()
        return self._complaints[0] if self._complaints else "stunnel does not say why"

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._follower

    async def _follow(self) -> None:
        """Read its log to its end."""
        log = self._process.stderr
        while log is not None and (line := await log.readline()):
            text = line.decode(errors="replace").rstrip()
            if _READY in text:
                self._is_ready.set()
            if any(word in text for word in _BEGINS):
                self._complaints.clear()
                self._has_complained.clear()
            complaint = _COMPLAINT.match(text)
            if complaint is None or any(word in text for word in _HARMLESS):
                continue
            if len(self._complaints) < _MOST_COMPLAINTS:
                self._complaints.append(complaint[1])
            self._has_complained.set()
        self._is_ready.set()
        self._has_complained.set()


def _configuration(server: TokenServer, socket: Path, lent: "LentKey", *, chain: int, trust: int) -> str:
    """Return the text of stunnel(8), for one service. Raises `BadInputError`."""
    lines = {
        "accept": str(socket),
        "connect": f"{server.host}:{server.port}",
        "cert": f"/proc/self/fd/{chain}",
        "key": lent.uri.text(of_key=True).partition("?")[0],
        "CAfile": f"/proc/self/fd/{trust}",
        "checkIP" if _is_address(server.host) else "checkHost": server.host,
    }
    for value in (*lines.values(), lent.uri.module_path, lent.pin.reveal()):
        if not _SAFE.fullmatch(value):
            raise BadInputError(
                "stunnel takes no host, token, module or PIN with blanks at its ends or letters beyond ASCII",
                hint="name them otherwise",
            )
    return (
        "foreground = yes\npid =\ndebug = 6\nsyslog = no\nengine = pkcs11\n"
        f"engineCtrl = MODULE_PATH:{lent.uri.module_path}\nengineCtrl = PIN:{lent.pin.reveal()}\n"
        "[server]\nclient = yes\ndelay = yes\nengineId = pkcs11\nverifyChain = yes\nlibwrap = no\n"
        "sslVersionMin = TLSv1.2\n" + "".join(f"{option} = {value}\n" for option, value in lines.items())
    )


@contextmanager
def _memory(text: str) -> Iterator[int]:
    """Give a descriptor from which a child reads a text."""
    descriptor = os.memfd_create("fleet-station")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _program(*names: str, package: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise FleetError(
            f"a station with its key in a token needs {names[0]}, which is not installed", hint=package
        )
    return found


def _pem(ders: tuple[bytes, ...]) -> str:
    return "".join(DER_cert_to_PEM_cert(der) for der in ders)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
