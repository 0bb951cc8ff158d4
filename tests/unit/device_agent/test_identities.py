"""Several identities in one process: each lives by itself, and dies by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from device_agent.agent import Agent
from device_agent.channels.memory import MemoryNetwork
from device_agent.config import Settings
from device_agent.errors import BadInputError, NotEnrolledError, StateError, UnacceptableAnswerError
from device_agent.folders import OWN, domain_of, folder_of, identities_in
from device_agent.identities import Identities, settings_of
from device_agent.store import LOCK, PREVIOUS, RECORD
from tests.device import Table
from tests.provisioner import Provisioner
from tests.waiting import until

DOMAINS = (OWN, "lab", "test")


class Device:
    """A device with a table of its own for each identity: another server, another network."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.tables = {
            name: Table(folder=folder / f"table-{name}", server=Provisioner(domain=name or "prod"))
            for name in DOMAINS
        }

    def settings(self, name: str = OWN) -> Settings:
        own = Settings(state=self.state, patience=timedelta(), first_wait=timedelta())
        return settings_of(own, name)

    def open_agent(self, settings: Settings) -> AbstractContextManager[Agent]:
        names = {folder_of(self.state, name): name for name in DOMAINS}
        network: MemoryNetwork = self.tables[names[settings.state]].network
        return Agent.opened(settings, ways=network, clock=lambda: datetime.now(UTC))

    async def enroll(self, *names: str) -> None:
        for name in names:
            with self.open_agent(self.settings(name)) as agent:
                await agent.enroll(self.tables[name].enrollment())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Identities]:
        identities = Identities(
            self.settings(),
            open_agent=self.open_agent,
            look_every=timedelta(milliseconds=20),
            jitter=lambda: 0.001,
        )
        async with identities.kept():
            yield identities


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


async def connected(identities: Identities, *names: str) -> None:
    await until(lambda: all(name in identities.running for name in names))
    for name in names:
        await identities.running[name].ready()


async def test_each_identity_has_a_connection_of_its_own(device: Device) -> None:
    await device.enroll(*DOMAINS)
    async with device.running() as identities:
        await connected(identities, *DOMAINS)
        for name, agent in identities.running.items():
            await agent.publish("up", name.encode())
        shown = {name: agent.status().name for name, agent in identities.running.items()}
    assert shown == {OWN: "prod:d1", "lab": "lab:d1", "test": "test:d1"}
    for name, table in device.tables.items():
        own = [body for topic, body in table.network.published if topic.startswith("devices/")]
        assert own == [name.encode()]


async def test_an_identity_that_is_enrolled_later_is_found(device: Device) -> None:
    await device.enroll(OWN)
    async with device.running() as identities:
        await connected(identities, OWN)
        await device.enroll("lab")
        await connected(identities, OWN, "lab")


async def test_a_device_may_have_identities_in_further_domains_alone(device: Device) -> None:
    await device.enroll("lab")
    async with device.running() as identities:
        await connected(identities, "lab")
        assert set(identities.running) == {"lab"}


async def test_a_folder_that_cannot_be_read_stops_no_other_identity(device: Device) -> None:
    await device.enroll(*DOMAINS)
    lab = folder_of(device.state, "lab")
    for name in (RECORD, PREVIOUS):
        (lab / name).write_bytes(b"junk")
    async with device.running() as identities:
        await connected(identities, OWN, "test")
        await identities.running[OWN].renew()
        assert "lab" not in identities.running


async def test_a_defect_that_one_server_touches_stops_no_other_identity(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.enroll(OWN, "lab")
    run, broken = Agent.run, folder_of(device.state, "lab")

    async def touched(agent: Agent) -> None:
        if agent.settings.state == broken:
            raise UnicodeError("a host that can be none")
        await run(agent)

    monkeypatch.setattr(Agent, "run", touched)
    async with device.running() as identities:
        await connected(identities, OWN)
        await identities.running[OWN].renew()


async def test_an_identity_whose_folder_is_mended_comes_back(device: Device) -> None:
    await device.enroll(OWN, "lab")
    record = folder_of(device.state, "lab") / RECORD
    held, before = record.read_bytes(), record.with_name(PREVIOUS)
    before.unlink()
    record.write_bytes(b"junk")
    async with device.running() as identities:
        await connected(identities, OWN)
        record.write_bytes(held)
        await connected(identities, "lab")


async def test_the_only_identity_of_a_process_ends_it_where_it_cannot_be_kept(device: Device) -> None:
    await device.enroll(OWN)
    for name in (RECORD, PREVIOUS):
        (device.state / name).write_bytes(b"junk")

    async def run() -> None:
        async with device.running():
            await asyncio.Event().wait()

    with pytest.raises(StateError):
        await run()


async def test_a_device_without_any_identity_has_nothing_to_run(device: Device) -> None:
    with pytest.raises(NotEnrolledError):
        await device.running().__aenter__()


async def test_the_folder_of_a_domain_takes_no_identity_of_another(device: Device) -> None:
    settings, other = device.settings("lab"), device.tables["test"]
    with Agent.opened(settings, ways=other.network, clock=other.clock) as agent:
        with pytest.raises(UnacceptableAnswerError, match="wrong identity"):
            await agent.enroll(other.enrollment())
        assert agent.record.life.active is None


async def test_all_renew_when_they_are_told_to(device: Device) -> None:
    await device.enroll(OWN, "lab")
    async with device.running() as identities:
        await connected(identities, OWN, "lab")
        before = {agent.status().serial for agent in identities.running.values()}
        identities.want_renewal()
        await until(lambda: not before & {agent.status().serial for agent in identities.running.values()})
        assert identities.make_progress()


async def test_a_factory_reset_of_one_leaves_the_others_keys(device: Device) -> None:
    await device.enroll(OWN, "lab")
    with device.open_agent(device.settings("lab")) as agent:
        agent.reset()
    assert identities_in(device.state) == ()
    with device.open_agent(device.settings()) as agent:
        await agent.renew_once()
        assert agent.status().enrolled


async def test_a_second_process_keeps_out_of_every_identity(device: Device) -> None:
    await device.enroll(OWN, "lab")
    async with device.running() as identities:
        await connected(identities, OWN, "lab")
        for name in (OWN, "lab"):
            assert (folder_of(device.state, name) / LOCK).exists()
            with pytest.raises(StateError, match="another agent"), device.open_agent(device.settings(name)):
                pytest.fail("it was let in")


def test_sockets_of_a_further_identity_stand_beside_the_devices_own() -> None:
    own = Settings(state=Path("/s"), share=Path("/run/a/share.sock"), signer=Path("/run/a/signer.sock"))
    lab = settings_of(own, "lab")
    assert (lab.state, lab.share) == (Path("/s/identities/lab"), Path("/run/a/share-lab.sock"))
    assert (lab.signer, lab.socket) == (Path("/run/a/signer-lab.sock"), lab.state / "agent.sock")
    assert settings_of(own, OWN) == own
    assert settings_of(replace(own, share=None), "lab").share is None


def test_a_folder_knows_its_domain_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "identities").mkdir()
    monkeypatch.chdir(tmp_path / "identities")
    assert domain_of(Path("lab")) == domain_of(tmp_path / "identities" / "lab") == "lab"
    assert domain_of(tmp_path / "state") is None


@pytest.mark.parametrize("name", ["..", "a/b", "Lab", "-", "a" * 33])
def test_an_identity_is_named_as_a_domain(name: str) -> None:
    with pytest.raises(BadInputError):
        folder_of(Path("/s"), name)
