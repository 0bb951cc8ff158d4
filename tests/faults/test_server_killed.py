"""`fleet serve` killed again and again in a burst: what it had said holds, and nothing else is alive.

FLEET_KILLS says how often, FLEET_KILL_SEED repeats a run.
"""

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.replies import Issued
from fleet.broker.mosquitto_config import Paths
from fleet.broker.mosquitto_process import MosquittoProcess
from fleet.ca.auditkey import load_audit_verifier
from fleet.home import Home
from fleet.model import CertificateState, RevocationReason
from fleet.ports import Store
from fleet.ra.people import audits
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke as revoke_devices
from fleet.service import Listeners
from fleet.store import allowlist, audit
from fleet.store.audit import AuditQuery
from fleet.store.certificates import load_certificate
from fleet.store.devices import load_device
from fleet.store.revocations import revocation_of
from fleet.store.sqlite import open_store
from tests.homes import FleetHome
from tests.killable import STEPS, Fuse, KillableServer, Member, TurnedAwayError, joining
from tests.live import LiveFleet, live, make_live_home

pytestmark = pytest.mark.needs("mosquitto", "gcc")

KILLS = int(os.environ.get("FLEET_KILLS", "4"))
SEED = int(os.environ.get("FLEET_KILL_SEED", "0")) or random.randrange(1, 10**6)
AT_ONCE = 6
ENDLESS = 10**9
CONFIRMED = {
    CertificateState.ACTIVE,
    CertificateState.SUPERSEDED,
    CertificateState.SUPERSEDED_ACKED,
    CertificateState.REVOKED,
}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[FleetHome]:
    """A home whose Mosquitto goes on while its server is dead."""
    made = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="mosquitto", stop=False)
    yield made
    process = MosquittoProcess(Paths(folder=made.home.broker))
    if (left := process.find()) is not None:
        await process.stop(left)


async def test_a_server_killed_in_a_burst_keeps_its_word(home: FleetHome, tmp_path: Path) -> None:
    choose = random.Random(SEED)
    async with live(home, tmp_path, listeners=Listeners.ADMIN_ONLY) as fleet:
        members = [await joining(fleet, f"d{number}") for number in range(KILLS * AT_ONCE)]
    intents = 0
    for number in range(KILLS):
        burst = [
            member
            for member in members[: (number + 1) * AT_ONCE]
            if not member.is_done and not member.is_condemned
        ]
        await killed(home.home, burst, choose)
        intents += await check_records(home.home, members, tmp_path / f"copy-{number}")
    async with live(home, tmp_path) as fleet:
        await come_through(fleet, members)
        await check_life(fleet, members)
    done = sum(len(member.answers) for member in members)
    print(f"\nkilled {KILLS} times (seed {SEED}): {done} certificates, {intents} intents were cut off")


async def killed(home: Home, burst: Sequence[Member], choose: random.Random) -> None:
    """Start a server, let devices come and one of them be revoked, and kill it at some step of theirs."""
    server = await KillableServer.start(home)
    fuse = Fuse(left=choose.randint(1, STEPS * len(burst)))
    condemned = choose.choice(burst)
    condemned.is_condemned = True
    try:
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(go_on(member, server.ports, fuse)) for member in burst]
            revoking = group.create_task(revoke(server, condemned))
            last = group.create_task(burn_down(lives, fuse))
            await fuse.gone_off.wait()
            await server.kill()
            for task in (*lives, revoking, last):
                task.cancel()
    finally:
        await server.kill()


async def go_on(member: Member, ports: dict[str, int], fuse: Fuse) -> None:
    try:
        await member.live_through(ports, fuse)
    except TurnedAwayError:
        if not member.is_condemned:
            raise


async def revoke(server: KillableServer, condemned: Member) -> None:
    with suppress(aiohttp.ClientError, OSError):
        condemned.is_revoked = await server.revoke(condemned.identity.device_id)


async def burn_down(lives: Sequence[asyncio.Task[None]], fuse: Fuse) -> None:
    """Let the fuse go off when nobody has a step left to make."""
    await asyncio.wait(lives)
    fuse.gone_off.set()


async def check_records(home: Home, members: Sequence[Member], copy: Path) -> int:
    """Check what the dead server left in its store; return how many intents it left unfinished."""
    copy.mkdir()
    for file in home.root.glob("fleet.db*"):
        shutil.copy(file, copy)
    is_signed = load_audit_verifier(home.audit_public_key)
    notary = audits.Notary(fleet="acme", is_signed=is_signed, head_file=home.audit_head)
    async with open_store(copy / "fleet.db") as store:
        verdict = await audits.verify(store, notary)
        assert verdict.is_whole, verdict.findings
        return sum([await check_member(store, member) for member in members])


async def check_member(store: Store, member: Member) -> int:
    device = await store.read(load_device, member.identity)
    assert device is not None
    states = [row.state for row in device.certificates]
    assert states.count(CertificateState.ACTIVE) <= 1
    assert states.count(CertificateState.ISSUED) <= 1
    assert not member.is_revoked or set(states) <= {CertificateState.REVOKED}
    for row in device.certificates:
        assert await is_on_record(store, row.serial)
    for issued in member.answers.values():
        assert await is_kept(store, issued)
    assert member.confirmed <= {row.serial for row in device.certificates if row.state in CONFIRMED}
    return states.count(CertificateState.VOID)


async def is_on_record(store: Store, serial: str) -> bool:
    """Say whether the audit trail tells of a certificate: the intent, and the result where there is one."""
    row = await store.read(load_certificate, serial)
    found = await store.read(audit.search, AuditQuery(serial=serial))
    told = {stored.entry.action for stored in found}
    return row is not None and (
        "certificate.intended" in told and ("certificate.issued" in told) == (row.signed is not None)
    )


async def is_kept(store: Store, issued: Issued) -> bool:
    """Say whether a certificate that a device was given stands in the store, byte for byte."""
    row = await store.read(load_certificate, issued.serial)
    given = x509.load_pem_x509_certificate(issued.certificate.encode()).public_bytes(Encoding.DER)
    return row is not None and row.signed is not None and row.signed.der == given


async def come_through(fleet: LiveFleet, members: Sequence[Member]) -> None:
    """Let every device end what it began, and every revocation too."""
    ports = ports_of(fleet)
    for member in members:
        if member.is_condemned:
            await revoke_devices(
                fleet.context,
                ByDevice(identities=(member.identity,)),
                reason=RevocationReason.KEY_COMPROMISE,
                actor="operator:test",
            )
        elif not member.is_done:
            await member.live_through(ports, Fuse(left=ENDLESS))


async def check_life(fleet: LiveFleet, members: Sequence[Member]) -> None:
    """Check that the broker admits what the store admits: one certificate of each device, none revoked."""
    listed = await fleet.context.store.read(allowlist.snapshot, None)
    admitted = {entry.serial for entry in listed.entries}
    for member in members:
        device = await fleet.context.store.read(load_device, member.identity)
        assert device is not None
        live_ones = [row.serial for row in device.certificates if row.serial in admitted]
        assert len(live_ones) == (0 if member.is_condemned else 1)
        for issued in member.answers.values():
            assert await member.is_let_in(issued, ports_of(fleet)) == (issued.serial in admitted)
        for row in device.certificates:
            if row.state is CertificateState.VOID:
                assert await fleet.context.store.read(revocation_of, row.serial) is not None


def ports_of(fleet: LiveFleet) -> dict[str, int]:
    endpoints = fleet.context.endpoints
    return {"mqtt": endpoints.mqtt_port, "mqtt_bootstrap": endpoints.mqtt_bootstrap_port}
