"""A station's disk dies in the middle of a batch, and a spare PC goes on with what the server knows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.wire.factory_replies import HelloReply
from device_agent.wire.identity import Identity
from fleet.core.journal import Outcome
from fleet.core.station_recall import Fate
from fleet.errors import NotFoundError, RefusedError
from fleet.model import CertificateState, Role
from fleet.ra.people.releases import ReleaseOrder, release_unit
from fleet.ra.people.stations import add_station, close_station
from fleet.service import Listeners, Service, running
from fleet.station.keeping.ledger import Ledger
from fleet.station.keeping.units import Attempt
from fleet.station.link import steps
from fleet.station.link.causes import Cause
from fleet.station.link.pace import Pace
from fleet.station.link.session import Session
from fleet.station.link.steps import Step
from fleet.station.making.clerk import Clerk
from fleet.station.making.ids import IdRule
from fleet.station.own.identity import StationIdentity
from fleet.station.server.authority import HttpEnroller
from fleet.station.server.way import AdminSocket
from fleet.store.devices import load_device
from fleet.web.api import units
from tests.desk import Unit, station_order
from tests.factory_floor import MemoryUnit, Wire, counted_randomness, run_session
from tests.homes import FleetHome, utc_now
from tests.live import configure, make_live_home
from tests.pki import Pki, pem_of

PORTS = {"mqtt_port": 8883, "mqtt_bootstrap_port": 8884, "https_port": 8443, "http_port": 8080}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    made = make_live_home(tmp_path_factory.mktemp("takeover") / "home", driver="embedded")
    configure(made.home.config, driver="embedded", ports=PORTS)
    return made


@pytest.fixture
async def service(home: FleetHome) -> AsyncIterator[Service]:
    async with running(home.home.root, listeners=Listeners.ADMIN_ONLY) as service:
        yield service


@dataclass
class Bench:
    """A station with a ledger of its own."""

    identity: StationIdentity
    clerk: Clerk
    ledger: Ledger
    anchors: tuple[bytes, ...]

    def unit(self, hardware_id: str, device_id: str = "") -> MemoryUnit:
        return MemoryUnit(hardware_id=hardware_id, device_id=device_id, anchors=self.anchors)

    async def serve(self, unit: MemoryUnit, *, until: type[steps.Question] | None = None) -> steps.End:
        """Run one session; with `until`, the station dies when it is asked that."""

        async def decide(question: steps.Question) -> steps.Decision:
            if until is not None and isinstance(question, until):
                return steps.Hold(reason="its disk died")
            return await self.clerk.decide(question)

        session = Session(identity=self.identity, pace=Pace(baud=115200), randomness=counted_randomness())
        end = await run_session(session, Wire(unit), decide)
        if end.step is Step.QUARANTINED:
            await self.clerk.quarantine(unit.hardware_id, end.detail)
        return end


@asynccontextmanager
async def bench(
    home: FleetHome, identity: StationIdentity, ledger: Path, *, further: bytes = b""
) -> AsyncIterator[Bench]:
    """Give a station; `further` are certificates (PEM) that devices are to trust servers by since lately."""
    pem = home.home.server_trust.read_bytes() + further
    anchors = tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))
    server = AdminSocket(path=home.home.admin_socket, station=identity.name)
    async with (
        Ledger.opened(ledger, clock=utc_now, identity=identity) as opened,
        HttpEnroller.opened(server, servers=anchors) as enroller,
    ):
        clerk = Clerk(
            ledger=opened, enroller=enroller, ids=IdRule(prefix=f"{ledger.stem}-"), recaller=enroller
        )
        yield Bench(identity=identity, clerk=clerk, ledger=opened, anchors=anchors)


async def new_station(service: Service, folder: Path, name: str) -> StationIdentity:
    """Add a station for the batches of `local`, as `fleet station add` does."""
    bearer = Unit(device_id=name)
    made = await add_station(service.context, station_order(name, "local", csr=bearer.csr))
    certificate, private = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_text(made.own.certificate_pem)
    private.write_bytes(bearer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return StationIdentity.load(certificate, private)


def hello_of(unit: MemoryUnit) -> HelloReply:
    report = unit.report()
    return HelloReply(
        nonce=b"\x01" * 16,
        hardware_id=report.hardware_id,
        device_id=report.device_id,
        state=report.state,
        fingerprint=report.fingerprint,
    )


def local(home: FleetHome) -> StationIdentity:
    files = home.home.station("local")
    return StationIdentity.load(files.certificate, files.key)


async def states(service: Service, device_id: str) -> list[CertificateState]:
    device = await service.context.store.read(load_device, Identity(domain="prod", device_id=device_id))
    assert device is not None
    return [one.state for one in device.certificates]


async def test_a_spare_goes_on_with_units_in_every_state(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with bench(home, local(home), tmp_path / "one.db") as dead:
        made, installed, keyed, untold = (dead.unit(f"hw-{at}") for at in range(4))
        assert (await dead.serve(made)).step is Step.COMMITTED
        await dead.clerk.confirm(made.hardware_id)
        await dead.serve(installed, until=steps.RecordProof)
        await dead.serve(keyed, until=steps.Issue)
        assert (await dead.serve(untold)).step is Step.COMMITTED
    (tmp_path / "one.db").unlink()

    spare = await new_station(service, tmp_path, "spare")
    async with bench(home, spare, tmp_path / "one.db") as heir:
        new = heir.unit("hw-new")
        ends = [await heir.serve(unit) for unit in (made, installed, keyed, untold, new)]
        for unit in (made, installed, keyed, untold, new):
            await heir.clerk.confirm(unit.hardware_id)

    assert [end.step for end in ends] == [Step.COMMITTED] * 5
    ids = [unit.active.device_id for unit in (made, installed, keyed, untold, new) if unit.active]
    assert len(set(ids)) == 5, "the numbers go on after those that the server knows"
    for device_id in ids:
        assert await states(service, device_id) == [CertificateState.ACTIVE], device_id
    assert [unit.commits for unit in (made, untold)] == [1, 1], "nothing is committed a second time"


async def test_a_spare_takes_good_units_though_the_fleet_has_another_root_since(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    """A unit proves all that it was given, which the journal of the station that made it tells."""
    first = await new_station(service, tmp_path, "before-roll")
    async with bench(home, first, tmp_path / "roll.db") as dead:
        made, installed, untold = (dead.unit(f"hw-roll-{at}") for at in range(3))
        assert (await dead.serve(made)).step is Step.COMMITTED
        await dead.clerk.confirm(made.hardware_id)
        await dead.serve(installed, until=steps.RecordProof)
        await dead.clerk.upload()
        assert (await dead.serve(untold)).step is Step.COMMITTED

    spare = await new_station(service, tmp_path, "after-roll")
    root = pem_of(Pki().roots["fleet"].certificate)
    async with bench(home, spare, tmp_path / "after.db", further=root) as heir:
        ends = [await heir.serve(unit) for unit in (made, installed, untold)]
    assert [end.step for end in ends] == [Step.COMMITTED, Step.COMMITTED, Step.QUARANTINED]
    assert ends[-1].cause is Cause.WRONG_PROOF, "nobody tells what it was given"
    assert (made.commits, installed.commits) == (1, 1)


async def test_a_unit_that_is_finished_is_told_as_made_before(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with bench(home, local(home), tmp_path / "two.db") as dead:
        unit = dead.unit("hw-20")
        await dead.serve(unit)
        await dead.clerk.confirm("hw-20")
    spare = await new_station(service, tmp_path, "spare2")
    async with bench(home, spare, tmp_path / "other.db") as heir:
        question = steps.Recognise(hello=hello_of(unit))
        decision = await heir.clerk.decide(question)
    assert isinstance(decision, steps.Resume)
    assert decision.cause is Cause.MADE_BEFORE


async def test_units_of_another_batch_are_not_recalled(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    async with bench(home, local(home), tmp_path / "three.db") as dead:
        unit = dead.unit("hw-30")
        await dead.serve(unit)
    await add_station(service.context, station_order("elsewhere", "autumn"))
    server = AdminSocket(path=home.home.admin_socket, station="elsewhere")
    assert unit.active is not None
    async with HttpEnroller.opened(server, servers=()) as enroller:
        with pytest.raises(NotFoundError):
            await enroller.recall(unit.active.fingerprint)
        with pytest.raises(NotFoundError):
            await enroller.recall(b"\x07" * 32)


async def test_a_wiped_unit_is_made_anew_by_the_heir_of_a_closed_station_alone(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    old = await new_station(service, tmp_path, "old")
    async with bench(home, old, tmp_path / "four.db") as dead:
        unit = dead.unit("hw-40")
        await dead.serve(unit)
        await dead.clerk.confirm("hw-40")
    assert unit.active is not None
    device_id = unit.active.device_id
    spare = await new_station(service, tmp_path, "spare4")
    async with bench(home, spare, tmp_path / "heir.db") as heir:
        assert isinstance(await heir.clerk.decide(steps.Recognise(hello=hello_of(unit))), steps.Resume)
        unit.wipe()
        assert (await heir.serve(unit)).step is Step.FAILED
        await close_station(service.context, "old", actor="operator:ada")
        assert (await heir.serve(unit)).step is Step.COMMITTED
        await heir.clerk.confirm("hw-40")
    assert (await states(service, device_id)).count(CertificateState.ACTIVE) == 1


async def test_an_operators_release_reaches_the_station(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    station = await new_station(service, tmp_path, "press")
    async with bench(home, station, tmp_path / "five.db") as line:
        unit = line.unit("hw-50")
        await line.serve(unit)
        await line.clerk.quarantine("hw-50", "the test jig says no")
        attempt = Attempt(hardware_id="hw-50", device_id="", outcome=Outcome.QUARANTINED)
        await line.clerk.finish(attempt)
        with pytest.raises(NotFoundError):
            await release_unit(service.context, order("hw-50"))
        await line.clerk.upload()
        released = await release_unit(service.context, order("hw-50"))
        assert (released.station, released.hardware) == ("press", "hw-50")
        assert [one.hardware for one in await line.clerk.carry_out()] == ["hw-50"]
        assert await line.clerk.carry_out() == (), "it is told once it was carried out"
        before = unit.active
        end = await line.serve(unit)
    assert (end.step, unit.commits) == (Step.COMMITTED, 2)
    assert before is not None
    assert unit.active is not None
    assert unit.active.fingerprint != before.fingerprint, "rework gives it another key"
    assert (await states(service, unit.active.device_id)).count(CertificateState.ACTIVE) <= 1


async def test_a_unit_that_was_just_released_is_not_put_aside_once_more(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    station = await new_station(service, tmp_path, "press5")
    async with bench(home, station, tmp_path / "nine.db") as line:
        unit = line.unit("hw-90")
        await line.serve(unit)
        await line.clerk.quarantine("hw-90", "the test jig says no")
        assert (await line.serve(unit)).step is Step.QUARANTINED
        await line.clerk.upload()
        await release_unit(service.context, order("hw-90"))
        assert (await line.serve(unit)).step is Step.COMMITTED


async def test_rework_never_passes_the_key_that_was_put_aside(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    """An operator may send a unit to rework; only security may let one go on as it is."""
    station = await new_station(service, tmp_path, "press2")
    async with bench(home, station, tmp_path / "six.db") as line:
        unit = line.unit("hw-60")
        assert (await line.serve(unit, until=steps.RecordProof)).step is Step.HELD
        await line.clerk.quarantine("hw-60", "the test jig says no")
        await line.ledger.release("hw-60", by="operator:ada", fate=Fate.REWORK)

        aside, name = unit.pending, unit.pending.device_id if unit.pending else ""
        assert (await line.serve(unit)).step is Step.COMMITTED
        assert aside is not None
        assert unit.active is not None
        assert (unit.active.device_id, unit.active.key is aside.key) == (name, False)
        assert (await states(service, name)).count(CertificateState.ACTIVE) <= 1


async def test_rework_survives_a_cut_between_the_key_that_goes_and_the_one_that_comes(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    station = await new_station(service, tmp_path, "press3")
    async with bench(home, station, tmp_path / "seven.db") as line:
        unit = line.unit("hw-70")
        assert (await line.serve(unit, until=steps.RecordProof)).step is Step.HELD
        name = unit.pending.device_id if unit.pending else ""
        await line.clerk.quarantine("hw-70", "the test jig says no")
        await line.ledger.release("hw-70", by="operator:ada", fate=Fate.REWORK)
        unit.request(steps.NOBODY)
        assert (await line.serve(unit)).step is Step.COMMITTED
    assert unit.active is not None
    assert unit.active.device_id == name


async def test_a_unit_that_keeps_its_key_is_sent_back_to_its_factory_state(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    station = await new_station(service, tmp_path, "press4")
    async with bench(home, station, tmp_path / "eight.db") as line:
        unit = line.unit("hw-80")
        assert (await line.serve(unit, until=steps.RecordProof)).step is Step.HELD
        kept = unit.pending
        assert kept is not None
        unit.request = lambda _: kept.csr  # type: ignore[method-assign]  # firmware that makes one key for ever
        await line.clerk.quarantine("hw-80", "the test jig says no")
        await line.ledger.release("hw-80", by="operator:ada", fate=Fate.REWORK)
        end = await line.serve(unit)
    assert (end.step, unit.commits) == (Step.FAILED, 0)
    assert "the key that it was put aside with" in end.detail


def order(unit: str) -> ReleaseOrder:
    return ReleaseOrder(unit=unit, fate=Fate.REWORK, actor="operator:ada", reason="a loose screw")


def test_who_releases_a_unit_as_it_is_has_the_higher_role() -> None:
    roles = {route.path: route.role for route in units.routes()}
    assert roles == {"units/{unit}/release": Role.SECURITY, "units/{unit}/rework": Role.OPERATOR}


async def test_two_lines_that_count_under_one_prefix_give_no_number_twice_and_stop_at_none(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    lines = [await new_station(service, tmp_path, f"line{number}") for number in (7, 8)]
    folders = [tmp_path / line.name for line in lines]
    for folder in folders:
        folder.mkdir()
    ids: list[str] = []
    async with (
        bench(home, lines[0], folders[0] / "shared.db") as first,
        bench(home, lines[1], folders[1] / "shared.db") as second,
    ):
        for number in range(1, 5):
            for line in (first, second):
                unit = line.unit(f"{line.identity.name}-hw-{number}")
                end = await line.serve(unit)
                if end.step is Step.HELD:
                    assert end.cause is Cause.OTHER_NUMBER, end.detail
                    keyed = unit.pending
                    end = await line.serve(unit)
                    assert keyed is not None
                    assert unit.active is not None
                    assert unit.active.key is not keyed.key, "a key is for one id"
                assert end.step is Step.COMMITTED, end.detail
                ids.append(unit.active.device_id if unit.active else "")
    assert ids == [f"shared-{number:04d}" for number in range(1, 9)]


async def test_a_unit_that_waits_gets_another_number_while_it_is_unplugged(
    home: FleetHome, service: Service, tmp_path: Path
) -> None:
    lines = [await new_station(service, tmp_path, f"line{number}") for number in (5, 6)]
    folders = [tmp_path / line.name for line in lines]
    for folder in folders:
        folder.mkdir()
    async with (
        bench(home, lines[0], folders[0] / "waits.db") as first,
        bench(home, lines[1], folders[1] / "waits.db") as second,
    ):
        waiting, quick = first.unit("hw-waits"), second.unit("hw-quick")
        hello = steps.Recognise(hello=hello_of(waiting))
        assert await first.clerk.decide(hello) == steps.Enrol(device_id="waits-0001")
        csr = waiting.request("waits-0001")
        await first.ledger.add_request("hw-waits", csr)
        assert (await second.serve(quick)).step is Step.COMMITTED

        assert [unit async for unit in first.clerk.forward()] == []
        unit = await first.ledger.find("hw-waits")
        assert unit is not None
        assert (unit.device_id, unit.former) == ("waits-0002", "waits-0001")
        with pytest.raises(RefusedError, match="keeps its id"):
            await second.ledger.renumber("hw-quick", device_id="waits-0009")
        assert (await first.serve(waiting)).step is Step.COMMITTED
