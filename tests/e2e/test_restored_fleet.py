"""A fleet whose machine is lost comes back, and its devices do not notice: on each broker, by real links."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from device_agent.wire.identity import serial_hex
from device_agent.wire.replies import Issued
from device_agent.wire.requests import Renew
from fleet.ca.loading import load_certificate
from fleet.ca.shares import Quorum
from fleet.home import Home
from fleet.model import Purpose, RevocationReason
from fleet.ra import devices
from fleet.ra.keeping.backup import Backup, BackupOrder, make_backup, new_backup_id
from fleet.ra.keeping.restore import RestoreOrder, restore
from fleet.ra.own.own_renewal import renew_own
from fleet.ra.own.superseding import Superseding, supersede
from fleet.ra.people import audits
from fleet.ra.people.trail import trail_of
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.service import utc_now
from tests.desk import Unit
from tests.homes import FleetHome
from tests.live import LiveDevice, LiveFleet, live, make_live_home
from tests.mqtt import ClosedError, MqttClient, NotLetInError

DRIVERS = [
    pytest.param("embedded", id="embedded"),
    pytest.param("mosquitto", id="mosquitto", marks=pytest.mark.needs("mosquitto", "gcc")),
]
NAMES = ("stays", "renews", "revoked", "suspended")


def backed_up(home: Home, out: Path) -> Backup:
    order = BackupOrder(
        backup_id=new_backup_id(os.urandom),
        quorum=Quorum(needed=2, count=3),
        now=utc_now(),
        randomness=os.urandom,
    )
    return make_backup(home, order, out=out)


async def renewed(device: LiveDevice) -> LiveDevice:
    """Renew over MQTT, confirm with the new certificate, and return the device that holds it."""
    fresh = Unit(device_id=device.identity.device_id)
    async with device.connected() as client:
        reply = await device.ask(Renew(id=str(uuid4()), csr=fresh.csr, attempt=1), client)
    assert isinstance(reply, Issued), reply
    after = replace(device, unit=fresh, issued=reply)
    await after.confirm()
    return after


async def is_let_in(device: LiveDevice) -> bool:
    client = await MqttClient.open(device.tls(), port=device.fleet.context.endpoints.mqtt_port)
    try:
        return await client.connect(device.identity.name) == 0
    except (NotLetInError, ClosedError):
        return False
    finally:
        await client.close()


async def life(fleet: LiveFleet, folder: Path) -> tuple[Backup, dict[str, LiveDevice]]:
    """Enroll devices, back up while the server runs, then let things happen that the backup does not know."""
    held = {name: await fleet.enrolled(name) for name in NAMES}
    backup = await asyncio.to_thread(backed_up, fleet.home.home, folder / "one.backup")
    held["before"] = held["renews"]
    held["renews"] = await renewed(held["renews"])
    held["new"] = await fleet.enrolled("new")
    await revoke(
        fleet.context,
        ByDevice(identities=(held["revoked"].identity,)),
        reason=RevocationReason.KEY_COMPROMISE,
        actor="operator:test",
    )
    await devices.suspend(fleet.context, held["suspended"].identity, actor="operator:test")
    await keep_trail(fleet, folder)
    return backup, held


async def keep_trail(fleet: LiveFleet, folder: Path) -> None:
    lines = [line async for line in audits.export(trail_of(fleet.context))]
    (folder / "trail.jsonl").write_text("".join(f"{line}\n" for line in lines))


async def restored(home: FleetHome, backup: Backup, folder: Path) -> FleetHome:
    """Restore into a folder of its own, with all that was kept."""
    order = RestoreOrder(
        archive=backup.path,
        shares=backup.key.shares[1:],
        into=folder / "back",
        trail=folder / "trail.jsonl",
        actor="operator:test",
    )
    assert (await restore(order, clock=utc_now)).is_proven
    return FleetHome(home=Home(folder / "back"), authority=home.authority, made_at=home.made_at)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_devices_go_on_with_what_they_hold_and_those_that_were_shut_out_stay_out(
    tmp_path: Path, driver: str
) -> None:
    home = await asyncio.to_thread(make_live_home, tmp_path / "home", driver=driver)
    async with live(home, tmp_path) as fleet:
        backup, held = await life(fleet, tmp_path)
    back = await restored(home, backup, tmp_path)
    async with live(back, tmp_path) as fleet:
        again = {name: replace(device, fleet=fleet) for name, device in held.items()}
        let_in = {name for name, device in again.items() if await is_let_in(device)}
        assert let_in == {"stays", "renews", "new"}
        assert await is_let_in(await renewed(again["new"]))


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_whose_own_certificates_were_renewed_since_gets_others_and_starts(
    tmp_path: Path, driver: str
) -> None:
    """The keys of the newer ones went with the machine, and the older ones have ended."""
    home = await asyncio.to_thread(make_live_home, tmp_path / "home", driver=driver)
    files = (home.home.server, home.home.service)
    async with live(home, tmp_path) as fleet:
        device = await fleet.enrolled("d1")
        backup = await asyncio.to_thread(backed_up, home.home, tmp_path / "one.backup")
        before = [load_certificate(pair.certificate).serial_number for pair in files]
        await renew_own(fleet.context, frozenset({Purpose.SERVER, Purpose.SERVICE}))
        ended = tuple(serial_hex(serial) for serial in before)
        superseding = Superseding(serials=ended, actor="server", at=fleet.context.clock())
        await supersede(fleet.context, superseding)
        await keep_trail(fleet, tmp_path)

    back = await restored(home, backup, tmp_path)
    async with live(back, tmp_path) as fleet:
        assert await is_let_in(replace(device, fleet=fleet))
        async with asyncio.timeout(30):
            while await are_in_force(fleet, ended):  # noqa: ASYNC110 - housekeeping tells nobody
                await asyncio.sleep(0.05)


async def are_in_force(fleet: LiveFleet, serials: tuple[str, ...]) -> bool:
    """Tell whether the listeners still show, or the server still uses, one of these certificates."""
    pairs = (fleet.home.home.server, fleet.home.home.service)
    return any(serial_hex(load_certificate(pair.certificate).serial_number) in serials for pair in pairs)
