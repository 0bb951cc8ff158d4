"""Starts, finds again, reloads and stops one Mosquitto, by its own process id and nobody else's.

It is detached: it survives the end of `fleet serve`, and is found again by its pid, its start time and its
configuration file, so that a pid that was reused is never touched.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fleet.broker.mosquitto_config import Paths
from fleet.errors import FleetError, UnreachableError
from fleet.files import write_file

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 8192


def find_program() -> str | None:
    """Return the path of mosquitto; Debian puts it where PATH of a plain user does not look."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("mosquitto", path=f"{path}:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A Mosquitto of ours: which process it is, and what it was started with."""

    pid: int
    started: str
    """Start time in the kernel's own ticks: a reused pid has another one."""
    fingerprint: str
    """Of everything that only a new start takes in."""
    operational_port: int
    bootstrap_port: int


class MosquittoProcess:
    """One Mosquitto in one folder."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def find(self) -> Running | None:
        """Return the process that an earlier run of ours left behind, if it is alive and ours."""
        try:
            state = json.loads(self._paths.state.read_text())
            running = Running(
                pid=int(state["pid"]),
                started=str(state["started"]),
                fingerprint=str(state["fingerprint"]),
                operational_port=int(state["operational_port"]),
                bootstrap_port=int(state["bootstrap_port"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return running if self.is_alive(running) else None

    def is_alive(self, running: Running) -> bool:
        """Say whether the process still runs, with our configuration."""
        return _start_time(running.pid) == running.started and self._has_our_config(running.pid)

    async def start(
        self, program: str, *, fingerprint: str, operational_port: int, bootstrap_port: int
    ) -> Running:
        """Start it, detached, and return once it listens.

        Raises:
            FleetError: it did not start; the message is its own.
        """
        self._paths.pid.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            str(self._paths.config),
            "-d",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode != 0:
            raise self._failure(errors.decode(errors="replace"))
        pid = await self._wait_until_listening(operational_port, bootstrap_port)
        running = Running(
            pid=pid,
            started=_start_time(pid) or "",
            fingerprint=fingerprint,
            operational_port=operational_port,
            bootstrap_port=bootstrap_port,
        )
        self._remember(running)
        return running

    def reload(self, running: Running) -> None:
        """Make it read its certificates and CRLs again, and the guard its list if it is another one."""
        self._signal(running, signal.SIGHUP)

    async def stop(self, running: Running) -> None:
        """End it, and return when it is gone."""
        self._signal(running, signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                while self.is_alive(running):  # noqa: ASYNC110 - a process that is no child tells nobody
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            self._signal(running, signal.SIGKILL)
        self._paths.state.unlink(missing_ok=True)

    def _signal(self, running: Running, number: signal.Signals) -> None:
        if self.is_alive(running):
            os.kill(running.pid, number)

    def _remember(self, running: Running) -> None:
        state = {
            "pid": running.pid,
            "started": running.started,
            "fingerprint": running.fingerprint,
            "operational_port": running.operational_port,
            "bootstrap_port": running.bootstrap_port,
        }
        write_file(self._paths.state, json.dumps(state).encode())

    def _has_our_config(self, pid: int) -> bool:
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(self._paths.config) in arguments

    async def _wait_until_listening(self, *ports: int) -> int:
        try:
            async with asyncio.timeout(_START_SECONDS):
                while True:
                    pid = self._read_pid()
                    if pid is not None and _start_time(pid) is None:
                        raise self._failure("")
                    if pid is not None and all(_listens(pid, port) for port in ports):
                        return pid
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise self._failure("it does not listen") from error

    def _read_pid(self) -> int | None:
        try:
            return int(self._paths.pid.read_text())
        except (OSError, ValueError):
            return None

    def _failure(self, said: str) -> FleetError:
        said = self._last_error() or said.strip().partition("\n")[0] or "it gave no reason"
        return UnreachableError(f"mosquitto did not start: {said}", hint=f"see {self._paths.log}")

    def _last_error(self) -> str:
        """Return the last complaint in the log."""
        try:
            with self._paths.log.open("rb") as log:
                log.seek(max(0, self._paths.log.stat().st_size - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        complaints = [line.partition(": ")[2] for line in lines if "rror" in line or "fleet guard" in line]
        return complaints[-1] if complaints else ""


def free_ports(bind: str, ports: Sequence[int]) -> tuple[int, ...]:
    """Return ports that can be listened on: each one itself, or any for 0; no two are the same.

    Raises:
        UnreachableError: somebody else has one.
    """
    with ExitStack() as held:
        probes = [held.enter_context(_bound(bind, port)) for port in ports]
        return tuple(int(probe.getsockname()[1]) for probe in probes)


def _bound(bind: str, port: int) -> socket.socket:
    probe = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bind, port))
    except OSError as error:
        probe.close()
        raise UnreachableError(
            f"port {port} on {bind} cannot be used: {(error.strerror or 'error').lower()}",
            hint="stop what listens there, or set mqtt_port, mqtt_bootstrap_port in fleet.toml (0: any)",
        ) from error
    return probe


def _start_time(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None if it is gone or a zombie (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _listens(pid: int, port: int) -> bool:
    """Say whether the process itself, not somebody else on the same port, listens there."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    try:
        return any(str(entry.readlink()) in wanted for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _listening_inodes(port: int) -> set[str]:
    """Return the inodes of TCP sockets in state LISTEN (0A) on a port (proc_pid_net(5))."""
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        fields = (row.split() for row in rows)
        found |= {row[9] for row in fields if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    return found
