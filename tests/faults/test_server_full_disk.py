"""The disk fills up under a running `fleet serve`: clear answers, nothing half done, and then on it goes.

Where root may mount, the home lies on a small disk; elsewhere the server's files may not grow.
"""

import asyncio
import resource
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Problem
from fleet.broker.mosquitto_config import Paths
from fleet.broker.mosquitto_process import MosquittoProcess
from fleet.ca.auditkey import load_audit_verifier
from fleet.model import CertificateState
from fleet.ra.people import audits
from fleet.service import Listeners
from fleet.store.devices import load_device
from fleet.store.sqlite import open_store
from tests.homes import FleetHome
from tests.killable import Fuse, KillableServer, Member, TurnedAwayError, joining
from tests.live import live, make_live_home

ENDLESS = 10**9
SMALL_DISK = "24m"


@dataclass(kw_only=True)
class Disk:
    """Where the home lies; it can be filled, and given room again."""

    folder: Path
    is_mounted: bool

    def fill(self, server: KillableServer) -> None:
        if not self.is_mounted:
            self._limit(server, 0)
            return
        with suppress(OSError), (self.folder / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 16, 1):
                with suppress(OSError):
                    while True:
                        ballast.write(b"\0" * size)

    def make_room(self, server: KillableServer) -> None:
        if not self.is_mounted:
            self._limit(server, resource.RLIM_INFINITY)
        else:
            (self.folder / "ballast").unlink()

    @staticmethod
    def _limit(server: KillableServer, size: int) -> None:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    is_mounted = await asyncio.to_thread(mount, folder)
    yield Disk(folder=folder, is_mounted=is_mounted)
    if is_mounted:
        await asyncio.to_thread(subprocess.run, ["umount", str(folder)], check=True)


def mount(folder: Path) -> bool:
    if shutil.which("mount") is None:
        return False
    options = f"size={SMALL_DISK},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
async def home(disk: Disk) -> AsyncIterator[FleetHome]:
    # A Mosquitto of its own would not be held by the server's limits.
    driver = "auto" if disk.is_mounted else "embedded"
    made = await asyncio.to_thread(make_live_home, disk.folder / "home", driver=driver, stop=False)
    yield made
    process = MosquittoProcess(Paths(folder=made.home.broker))
    if (left := process.find()) is not None:
        await process.stop(left)


async def test_a_full_disk_loses_nothing_and_ends_nothing(
    disk: Disk, home: FleetHome, tmp_path: Path
) -> None:
    async with live(home, tmp_path, listeners=Listeners.ADMIN_ONLY) as fleet:
        early, late = [await joining(fleet, name) for name in ("early", "late")]
    server = await KillableServer.start(home.home)
    try:
        await early.live_through(server.ports, Fuse(left=ENDLESS))

        disk.fill(server)
        with pytest.raises(TurnedAwayError) as refused:
            await late.live_through(server.ports, Fuse(left=ENDLESS))
        revoked = await server.revoke("early")
        disk.make_room(server)

        problem = refused.value.args[0]
        assert isinstance(problem, Problem)
        assert problem.code is ProblemCode.UNAVAILABLE
        assert not revoked
        assert await early.is_let_in(early.answers[early.second.key_hash], server.ports)
        await late.live_through(server.ports, Fuse(left=ENDLESS))
        assert await server.revoke("early")
        assert not await early.is_let_in(early.answers[early.second.key_hash], server.ports)
    finally:
        await server.kill()
    await check(home, late)


async def check(home: FleetHome, late: Member) -> None:
    """Check that the trail is whole, and that the device which was refused has what it was told, no more."""
    is_signed = load_audit_verifier(home.home.audit_public_key)
    notary = audits.Notary(fleet="acme", is_signed=is_signed, head_file=home.home.audit_head)
    async with open_store(home.home.database) as store:
        verdict = await audits.verify(store, notary)
        device = await store.read(load_device, late.identity)
    assert verdict.is_whole, verdict.findings
    assert device is not None
    states = {row.serial: row.state for row in device.certificates}
    assert states == {
        late.answers[late.first.key_hash].serial: CertificateState.SUPERSEDED_ACKED,
        late.answers[late.second.key_hash].serial: CertificateState.ACTIVE,
    }
