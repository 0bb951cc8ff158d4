"""TLS by stunnel beside the agent, where Python cannot use a token's key for it: one process a connection.

stunnel signs in the token by OpenSSL's engine for PKCS#11, and the agent speaks to it over a socket that its
user alone can open. What stunnel is told, the PIN with it, goes through memory that has no name: no command
line, no file. It trusts the roots of the context in whose place it stands, and checks the server's name.
"""

import asyncio
import os
import re
import shutil
import ssl
import tempfile
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from device_agent.background import in_background
from device_agent.errors import ChannelError, KeyStoreError
from device_agent.wire.secret import Secret

_PROGRAMS = ("stunnel4", "stunnel")
_HINT = "apt-get install stunnel4 libengine-pkcs11-openssl"
_NO_CHECK_TIME = 0x200000
_START_SECONDS, _LOG_SECONDS, _STOP_SECONDS = 10.0, 2.0, 2.0
_READY, _TLS = "Accepting new connections", "TLS connected"
_ENDED = "Connection closed:", "Connection reset:"
_SAFE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""What a line of stunnel's configuration keeps as it is: it takes blanks at either end away."""
_COMPLAINT = re.compile(r"(?:\[!\]|[0-9.]+ [0-9:]+ LOG[0-4]\[[^]]*\]:) (.*)")
"""A line of a warning or worse (syslog(3)), as it is before stunnel has read its configuration, and after."""
_HARMLESS = "ENGINE_ctrl_cmd", "Unhandled error library"
"""The engine is asked for a certificate first, and has none."""
_BEGINS = "accepted connection", "s_connect: connected"
"""What was complained of before, of another connection or another address, no longer counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """What stunnel needs to be this device; made in the place of an armed context."""

    program: str
    module_path: str
    reference: str
    """The key's URI (RFC 7512)."""
    pin: Secret
    chain_pem: str
    roots_pem: str = field(repr=False)

    @asynccontextmanager
    async def running(self, host: str, port: int) -> AsyncIterator["Tunnel"]:
        """Run stunnel for one server; gives where it is entered.

        Raises:
            KeyStoreError: it does not start.
        """
        with tempfile.TemporaryDirectory(prefix="device-agent-") as folder, ExitStack() as stack:
            socket = Path(folder, "tls.sock")
            chain, roots = (stack.enter_context(_memory(text)) for text in (self.chain_pem, self.roots_pem))
            told = stack.enter_context(_memory(self._configuration(socket, host, port, chain, roots)))
            process = await _start(self.program, told, chain, roots)
            tunnel = Tunnel(socket, process)
            try:
                async with in_background(tunnel.follow()):
                    await tunnel.ready()
                    yield tunnel
            finally:
                await _stop(process)

    def _configuration(self, socket: Path, host: str, port: int, chain: int, roots: int) -> str:
        """Return the text of stunnel(8), for one service."""
        name = "checkIP" if _is_address(host) else "checkHost"
        lines = {
            "accept": str(socket),
            "connect": f"{host}:{port}",
            "cert": f"/proc/self/fd/{chain}",
            "key": self.reference.partition("?")[0],
            "CAfile": f"/proc/self/fd/{roots}",
            name: host,
        }
        for value in (*lines.values(), self.module_path, self.pin.reveal()):
            if not _SAFE.fullmatch(value):
                raise KeyStoreError("the sidecar cannot be told what it needs to know", hint=_HINT)
        service = "".join(f"{option} = {value}\n" for option, value in lines.items())
        return (
            "foreground = yes\npid =\ndebug = 6\nsyslog = no\nengine = pkcs11\n"
            f"engineCtrl = MODULE_PATH:{self.module_path}\nengineCtrl = PIN:{self.pin.reveal()}\n"
            "[server]\nclient = yes\ndelay = yes\nengineId = pkcs11\nverifyChain = yes\nlibwrap = no\n"
            f"sslVersionMin = TLSv1.2\n{service}"
        )


class Tunnel:
    """A running stunnel, and what it says."""

    def __init__(self, socket: Path, process: Process) -> None:
        self.socket = socket
        """Where TLS to the server is entered; for its owner alone."""
        self._process = process
        self._said: deque[str] = deque(maxlen=200)
        self._is_ready, self._has_ended = asyncio.Event(), asyncio.Event()
        self._has_tls = False

    async def follow(self) -> None:
        """Read the log to its end."""
        log = self._process.stderr
        while log is not None and (line := await log.readline()):
            text = line.decode(errors="replace").rstrip()
            self._said.append(text)
            self._has_tls |= _TLS in text
            if _READY in text:
                self._is_ready.set()
            if any(word in text for word in _BEGINS):
                self._said.clear()
            if any(end in text for end in _ENDED):
                self._has_ended.set()
        self._is_ready.set()
        self._has_ended.set()

    async def ready(self) -> None:
        """Wait until it can be entered; raises `KeyStoreError`."""
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._is_ready.wait()
        except TimeoutError as error:
            raise KeyStoreError("the sidecar does not start in time", hint=_HINT) from error
        if not self.socket.is_socket():
            raise KeyStoreError(f"the sidecar does not start: {self._why()}", hint=_HINT)

    async def require_tls(self) -> None:
        """Return where TLS came about, so that it was the server who closed what was closed.

        Raises:
            ChannelError: it did not; the server is away, or is not the one that is trusted.
        """
        try:
            async with asyncio.timeout(_LOG_SECONDS):
                await self._has_ended.wait()
        except TimeoutError:
            pass  # what it has said by then is what there is
        if not self._has_tls:
            raise ChannelError(f"the sidecar has no TLS with the server: {self._why()}")

    def _why(self) -> str:
        """Return the first thing that it complained about: what follows from it comes after."""
        found = (_COMPLAINT.match(text) for text in self._said if not any(word in text for word in _HARMLESS))
        return next((complaint[1] for complaint in found if complaint), "it says nothing")


def sidecar_for(
    context: ssl.SSLContext, *, module_path: str, reference: str, pin: Secret, chain_pem: str
) -> Sidecar:
    """Return what stands in the place of a client context that this process cannot arm.

    Raises:
        KeyStoreError: there is no stunnel, or it would check less than the context does.
    """
    program = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise KeyStoreError("there is no stunnel to do it instead", hint=_HINT)
    if context.verify_flags & _NO_CHECK_TIME:
        raise KeyStoreError(
            "stunnel cannot judge dates while the system's clock is not believed", hint="set the clock"
        )
    roots = "".join(ssl.DER_cert_to_PEM_cert(der) for der in context.get_ca_certs(binary_form=True))
    return Sidecar(
        program=program,
        module_path=module_path,
        reference=reference,
        pin=pin,
        chain_pem=chain_pem,
        roots_pem=roots,
    )


async def _start(program: str, told: int, *more: int) -> Process:
    """Start stunnel so that it ends with the agent, however that ends (PR_SET_PDEATHSIG)."""
    tied = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
    try:
        return await asyncio.create_subprocess_exec(
            *(*tied, program, "-fd", str(told)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=PIPE,
            pass_fds=(told, *more),
            umask=0o177,
        )
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise KeyStoreError(f"the sidecar does not start: {reason}", hint=_HINT) from error


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@contextmanager
def _memory(text: str) -> Iterator[int]:
    """Give a descriptor from which a child reads a text."""
    descriptor = os.memfd_create("sidecar")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
