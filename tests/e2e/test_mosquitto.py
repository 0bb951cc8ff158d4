"""Mosquitto with the guard, as a process: it outlives us, restarts alone, and never opens up by mistake."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.broker import mosquitto_launch, second_layer
from fleet.broker.guard import build
from fleet.broker.guard_link import GuardLink, GuardRefusedError
from fleet.broker.list_files import ListFiles
from fleet.broker.mosquitto import MosquittoBroker, mosquitto_available
from fleet.broker.mosquitto_config import Paths
from fleet.broker.mosquitto_process import MosquittoProcess, find_program
from fleet.broker.settings import BrokerFiles, CanaryFiles, Listeners, Mode
from fleet.errors import FleetError, NeedsAttentionError, StorageFullError, UnreachableError
from fleet.model import AllowlistChange, BrokerEventKind
from tests.broker_bench import free_port
from tests.broker_home import BrokerHome
from tests.broker_world import KEY_HASH, World, mosquitto, mosquitto_of, now, put_guard
from tests.mqtt import NotLetInError
from tests.pki import Pki, entry_of
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "gcc")


@pytest.fixture(scope="module")
def guard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard")


@pytest.fixture
def home(tmp_path: Path, guard_folder: Path) -> BrokerHome:
    home = BrokerHome(tmp_path, Pki())
    put_guard(home.files.folder, from_folder=guard_folder)
    return home


@pytest.fixture
async def world(home: BrokerHome) -> AsyncIterator[World]:
    async with mosquitto(home) as broker:
        world = await World.of(broker, home)
        yield world
        await world.close()


def pid_of(home: BrokerHome) -> int:
    return int(json.loads((home.files.folder / "mosquitto.json").read_text())["pid"])


def is_running(files: BrokerFiles) -> bool:
    return MosquittoProcess(Paths(folder=files.folder)).find() is not None


def log_of(home: BrokerHome) -> str:
    return (home.files.folder / "mosquitto.log").read_text()


async def ended(pid: int) -> None:
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def answering(world: World) -> int:
    """Wait until the guard answers again, and return its stamp."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await world.broker.stamp()
            except UnreachableError:
                await asyncio.sleep(0.02)


def test_this_machine_can_run_it() -> None:
    assert mosquitto_available() is None


# It outlives the service.


async def test_it_goes_on_enforcing_when_the_service_is_away(home: BrokerHome) -> None:
    first = mosquitto_of(home)
    try:
        async with first:
            world = await World.of(first, home)
            device = await world.let_in(world.device, "prod:d1")
        await device.ping()

        assert is_running(home.files)
        assert await world.is_refused(home.pki.device("d3"), "prod:d3")
        await world.let_in(world.neighbour, "prod:d2")
        await world.close()
    finally:
        await first.stop()
    assert not is_running(home.files)


async def test_a_new_service_finds_it_and_no_session_is_lost(home: BrokerHome) -> None:
    async with mosquitto_of(home) as first:
        world = await World.of(first, home)
        device = await world.let_in(world.device, "prod:d1")
    pid = pid_of(home)

    async with mosquitto(home) as second:
        await second.replace(home.allowlist(*world.entries, sequence=5))
        await device.ping()
        cut_offs = await second.change(AllowlistChange(sequence=6, removed=(world.entry,)))
        await device.wait_closed()

        assert (pid_of(home), second.endpoints) == (pid, first.endpoints)
        assert [cut.name for cut in cut_offs] == ["prod:d1"]
        await world.close()


async def test_what_happened_while_the_service_was_away_is_told_later(home: BrokerHome) -> None:
    async with mosquitto_of(home) as first:
        world = await World.of(first, home)
        events = first.events()
        await world.let_in(world.device, "prod:d1")
        await world.next_event(events, of="prod:d1")
        await events.aclose()
    await world.is_refused(home.pki.device("d3"), "prod:d3")

    async with mosquitto(home) as second:
        refused = await world.next_event(second.events(), of="prod:d3")
        await world.close()

    assert (refused.kind, refused.reason) == (BrokerEventKind.REFUSED, "unlisted")


async def test_an_event_that_was_not_finished_comes_again(home: BrokerHome) -> None:
    async with mosquitto_of(home) as first:
        world = await World.of(first, home)
        events = first.events()
        await world.let_in(world.device, "prod:d1")
        seen = await world.next_event(events, of="prod:d1")

    async with mosquitto(home) as second:
        again = await world.next_event(second.events(), of="prod:d1")
        await world.close()

    assert again == seen


async def test_other_ports_than_before_start_it_anew(home: BrokerHome) -> None:
    async with mosquitto_of(home):
        before = pid_of(home)
    other = Listeners(operational_port=free_port(), bootstrap_port=0)
    second = mosquitto_of(home, listeners=other)
    try:
        async with second:
            assert second.endpoints.operational_port == other.operational_port
            assert pid_of(home) != before
    finally:
        await second.stop()


# It restarts alone.


async def test_a_broker_that_restarts_alone_enforces_the_last_good_list(home: BrokerHome) -> None:
    async with mosquitto_of(home) as first:
        world = await World.of(first, home)
        await first.change(AllowlistChange(sequence=2, removed=(world.entry,)))
    os.kill(pid_of(home), signal.SIGKILL)
    await ended(pid_of(home))

    alone = await asyncio.create_subprocess_exec(
        find_program() or "", "-c", str(home.files.folder / "mosquitto.conf")
    )
    try:
        await listening(first.endpoints.operational_port)
        assert await world.is_refused(world.device, "prod:d1")
        await world.let_in(world.neighbour, "prod:d2")
        await world.close()
    finally:
        alone.terminate()
        await alone.wait()


async def test_a_broker_that_falls_is_started_again_and_its_list_proven(world: World) -> None:
    before = pid_of(world.home)
    os.kill(before, signal.SIGKILL)
    await ended(before)

    await until(lambda: pid_of(world.home) != before)
    await answering(world)
    await world.broker.change(AllowlistChange(sequence=2, removed=(world.entry,)))

    assert await world.is_refused(world.device, "prod:d1")
    await world.let_in(world.neighbour, "prod:d2")


async def test_a_broker_that_was_stopped_is_not_started_again(home: BrokerHome) -> None:
    broker = mosquitto_of(home)
    async with broker:
        pid = pid_of(home)
        await broker.stop()
        await ended(pid)
        assert not await broker._launch.revive()

    assert not is_running(home.files)


async def test_stamps_keep_growing_over_a_restart(world: World) -> None:
    before, pid = await world.broker.stamp(), pid_of(world.home)
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    await until(lambda: pid_of(world.home) != pid)

    assert await answering(world) > before


# Lists that are not what they should be.


@pytest.mark.parametrize("damage", [b"garbage", b"", b"fleet-allowlist 1 00 1 0\n"])
async def test_a_garbage_list_keeps_the_old_one_in_force(world: World, damage: bytes) -> None:
    device = await world.let_in(world.device, "prod:d1")
    listed = world.home.files.folder / "allowlist"
    whole = listed.read_bytes()
    for text in (damage, whole[:-10], whole.replace(b"prod:d2", b"prod:d3")):
        listed.write_bytes(text)
        with pytest.raises(GuardRefusedError):
            await world.broker._ask("load")  # the driver itself never writes such a file

    await device.ping()
    assert "the list is malformed; the old one stays in force" in log_of(world.home)
    assert await world.is_refused(world.home.pki.device("d3"), "prod:d3")


async def test_a_broker_with_no_good_list_refuses_everybody_until_the_service_brings_one(
    home: BrokerHome,
) -> None:
    async with mosquitto(home) as first:
        world = await World.of(first, home)
        await world.close()
    (home.files.folder / "allowlist").write_bytes(b"garbage")

    async with mosquitto(home) as second:
        assert "malformed; everything is refused" in log_of(home)
        world.broker = second
        assert await world.is_refused(world.device, "prod:d1")
        await second.replace(home.allowlist(*world.entries))
        await world.let_in(world.device, "prod:d1")
        await world.close()


async def test_a_torn_journal_ends_at_its_last_whole_change(home: BrokerHome) -> None:
    async with mosquitto_of(home) as first:
        world = await World.of(first, home)
        await first.change(AllowlistChange(sequence=2, removed=(world.entry,)))
        await first.change(AllowlistChange(sequence=3, removed=(world.entries[1],)))
    await first.stop()
    journal = home.files.folder / "allowlist.journal"
    journal.write_bytes(journal.read_bytes()[:-20])

    async with mosquitto(home) as second:
        world.broker = second
        assert "the journal ends early, at change 2" in log_of(home)
        assert await world.is_refused(world.device, "prod:d1")
        await world.let_in(world.neighbour, "prod:d2")
        await world.close()


async def test_a_revocation_that_the_disk_did_not_take_is_in_force_and_asks_for_the_whole_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_files: ListFiles, _text: bytes) -> None:
        raise StorageFullError("the disk is full")

    device = await world.let_in(world.device, "prod:d1")
    with monkeypatch.context() as patch:
        patch.setattr(ListFiles, "append", full)
        with pytest.raises(StorageFullError):
            await world.broker.change(AllowlistChange(sequence=2, removed=(world.entry,)))
    await device.wait_closed()

    async with asyncio.timeout(10):
        reason = await world.broker.doubtful()

    assert "disk" in reason


async def test_a_service_with_a_renewed_certificate_gets_back_in(home: BrokerHome) -> None:
    async with mosquitto_of(home) as first:
        world = await World.of(first, home)
    renewed = BrokerHome(home.folder, home.pki)

    async with mosquitto(renewed) as second:
        world.broker = second
        assert await world.is_refused(world.device, "prod:d1")
        await second.replace(renewed.allowlist(*world.entries))
        await world.let_in(world.device, "prod:d1")
        await world.close()


async def test_a_broker_alone_complains_of_the_age_of_its_list_and_keeps_it(
    home: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto_launch, "ALARM_AFTER_S", 1)
    first = mosquitto_of(home)
    try:
        async with first:
            world = await World.of(first, home)
            assert first.age().total_seconds() < 60

        await until(lambda: "nobody confirmed the list" in log_of(home))

        await world.let_in(world.device, "prod:d1")
        await world.close()
    finally:
        await first.stop()


# The second layer.


async def test_a_certificate_on_the_crl_is_turned_away_by_tls_itself(world: World) -> None:
    authority = world.home.pki.devices["prod"]
    authority.revoked.append(world.device.certificate.serial_number)
    await world.broker.publish_crls(world.home.crls())

    with pytest.raises(NotLetInError):
        await (await world.open(world.device)).connect("prod:d1")


async def test_a_new_crl_leaves_live_sessions_alone(world: World) -> None:
    device = await world.let_in(world.device, "prod:d1")

    await world.broker.publish_crls(world.home.crls())

    await device.ping()


async def test_a_reload_drops_a_kept_session_of_nobody(world: World) -> None:
    device = await world.let_in(world.device, "prod:d1", clean=False)
    await device.subscribe("devices/prod/d1/#")
    await device.disconnect()
    server = await world.server()
    for _ in range(3):
        await world.broker.publish_crls(world.home.crls())
    await server.publish("devices/prod/d1/x", b"kept")

    back = await world.let_in(world.device, "prod:d1", clean=False)

    assert (await back.receive()).body == b"kept"


async def test_a_claim_that_speaks_mqtt_5_leaves_no_session_behind_either(world: World) -> None:
    """There, a clean start says nothing of the end: the session expires when it likes (MQTT 5 3.1.2.11)."""
    lasting = await world.open(world.claim, bootstrap=True)
    device = await world.open(world.device)

    assert await lasting.connect_5(KEY_HASH, session_expiry_s=3600) != 0
    assert await device.connect_5("prod:d1", session_expiry_s=3600) == 0


async def test_a_broker_that_lets_the_canary_in_is_noticed(world: World) -> None:
    good = world.home.pki.services.leaf("canary")
    certificate, key = good.write(world.home.folder, "no-canary")

    with pytest.raises(NeedsAttentionError, match="reads no CRL"):
        await second_layer.probe(
            CanaryFiles(certificate=certificate, key=key),
            address="127.0.0.1",
            port=world.broker.endpoints.operational_port,
            host="localhost",
            trust=world.home.trust,
        )


async def test_a_canary_that_fails_for_another_reason_is_noticed(world: World) -> None:
    certificate, key = world.claim.write(world.home.folder, "foreign-canary")

    with pytest.raises(NeedsAttentionError, match="another reason"):
        await second_layer.probe(
            CanaryFiles(certificate=certificate, key=key),
            address="127.0.0.1",
            port=world.broker.endpoints.operational_port,
            host="localhost",
            trust=world.home.trust,
        )


# What cannot work says so.


async def test_a_guard_that_cannot_be_built_stops_the_start(
    home: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.files.folder / build.LIBRARY).unlink()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    broker = mosquitto_of(home)

    with pytest.raises(FleetError, match="no C compiler") as raised:
        await broker.__aenter__()

    assert raised.value.hint is not None
    assert "apt-get install" in raised.value.hint
    assert not is_running(home.files)


async def test_a_guard_that_cannot_be_loaded_stops_the_start(home: BrokerHome) -> None:
    (home.files.folder / build.LIBRARY).write_bytes(b"no library")
    broker = mosquitto_of(home)

    with pytest.raises(UnreachableError, match="did not start"):
        await broker.__aenter__()

    assert not is_running(home.files)


async def test_a_port_in_use_stops_the_start_with_its_number(home: BrokerHome) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        broker = mosquitto_of(home, listeners=Listeners(operational_port=port, bootstrap_port=0))
        with pytest.raises(UnreachableError, match=f"port {port}"):
            await broker.__aenter__()


async def test_an_external_broker_is_used_and_never_started_or_stopped(home: BrokerHome) -> None:
    async with mosquitto(home) as managed:
        ends = managed.endpoints
        listeners = Listeners(operational_port=ends.operational_port, bootstrap_port=ends.bootstrap_port)
        pid = pid_of(home)
    started = await asyncio.create_subprocess_exec(
        find_program() or "", "-c", str(home.files.folder / "mosquitto.conf")
    )
    try:
        await listening(ends.operational_port)
        external = MosquittoBroker(home.files, listeners, crls=home.crls(), clock=now, mode=Mode.EXTERNAL)
        async with external:
            world = await World.of(external, home)
            await world.let_in(world.device, "prod:d1")
            with pytest.raises(NeedsAttentionError, match="read its files"):
                await external.publish_crls(home.crls())
            await world.close()
        await external.stop()
        assert started.returncode is None
        assert pid != started.pid
    finally:
        started.terminate()
        await started.wait()


# Orders.


async def test_orders_that_make_no_sense_are_refused_and_harm_nobody(world: World) -> None:
    device = await world.let_in(world.device, "prod:d1")
    link: GuardLink = world.broker._up()
    for verb, body in [
        ("unknown", b""),
        ("confirm zz", b""),
        ("change", b"garbage"),
        ("change", b"\xff" * 100_000),
        ("change", b"change 0011223344556677 2 99999999999999 0\n"),
        ("change", b"change 0011223344556677 2 0 0\nend " + b"0" * 64 + b"\n"),
    ]:
        with pytest.raises(GuardRefusedError):
            await link.order(verb, body=body)

    await device.ping()


async def test_many_changes_stay_in_step(world: World) -> None:
    pair = world.home.pki.device("d3")
    entry = entry_of(pair, "prod:d3")
    for number in range(50):
        serial = f"{0x50 << 120 | number:032x}"
        await world.broker.change(
            AllowlistChange(sequence=2 + number, added=(replace(entry, serial=serial),))
        )

    status = (await world.broker._ask("status"))[-1].status

    assert status is not None
    assert (status.sequence, status.count) == (51, 54)
