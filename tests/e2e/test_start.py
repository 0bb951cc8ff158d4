"""How the service starts, refuses to start, stops, and comes back beside a broker that went on."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from device_agent.wire import messages
from device_agent.wire.replies import Status
from device_agent.wire.requests import StatusQuery
from device_agent.wire.topics import EnrollTopics
from fleet.broker.mosquitto_config import Paths
from fleet.broker.mosquitto_process import MosquittoProcess
from fleet.errors import BadInputError, FleetError, RefusedError, UnreachableError
from fleet.home import Home
from fleet.model import RevocationReason
from fleet.ra.context import Endpoints
from fleet.ra.selection import ByDevice
from fleet.ra.status.revoke import revoke
from fleet.service import Listeners, running, serve
from tests.homes import FleetHome
from tests.live import configure, live, make_live_home

KEYS = ["mqtt_port", "mqtt_bootstrap_port", "https_port", "http_port"]


@pytest.fixture
def home(tmp_path: Path) -> FleetHome:
    return make_live_home(tmp_path / "home", driver="embedded")


@pytest.fixture
async def managed(tmp_path: Path) -> AsyncIterator[FleetHome]:
    """A home whose Mosquitto outlives the service, and is stopped in the end."""
    made = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="mosquitto", stop=False)
    yield made
    process = MosquittoProcess(Paths(folder=made.home.broker))
    if (left := process.find()) is not None:
        await process.stop(left)


async def refusal(home: Home, *, listeners: Listeners = Listeners.ALL) -> FleetError:
    """Return why the service does not start."""
    with pytest.raises(FleetError) as caught:
        async with running(home.root, listeners=listeners):
            pass
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("key", KEYS)
async def test_a_port_in_use_is_named_with_its_key(home: FleetHome, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {name: port if name == key else 0 for name in KEYS}
        configure(home.home.config, driver="embedded", ports=ports)

        error = await refusal(home.home)

    assert isinstance(error, UnreachableError)
    assert str(port) in str(error)
    assert error.hint


async def test_after_a_start_that_failed_the_next_one_works(home: FleetHome, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        configure(home.home.config, driver="embedded", ports={"http_port": other.getsockname()[1]})
        await refusal(home.home)
    configure(home.home.config, driver="embedded")

    async with live(home, tmp_path) as fleet:
        assert fleet.context.answering()


async def test_two_services_on_one_home_are_one_too_many(home: FleetHome, tmp_path: Path) -> None:
    async with live(home, tmp_path):
        error = await refusal(home.home, listeners=Listeners.ADMIN_ONLY)

    assert isinstance(error, RefusedError)


async def test_a_wrong_passphrase_is_told_before_anything_listens(home: FleetHome) -> None:
    home.home.issuing_passphrase.write_text("not the one\n")

    error = await refusal(home.home)

    assert isinstance(error, BadInputError)
    assert "not the one" not in str(error)


async def test_a_missing_passphrase_says_how_to_give_one(home: FleetHome) -> None:
    home.home.issuing_passphrase.unlink()

    assert (await refusal(home.home)).hint


async def test_an_unknown_key_in_the_configuration_is_told_with_its_line(home: FleetHome) -> None:
    with home.home.config.open("a") as file:
        file.write("lifetme_days = 3\n")

    assert "unknown key 'lifetme_days'" in str(await refusal(home.home))


async def test_a_domain_without_an_authority_is_refused(home: FleetHome) -> None:
    with home.home.config.open("a") as file:
        file.write("[domains.moon]\n")

    assert "moon" in str(await refusal(home.home))


async def test_where_the_guard_cannot_be_built_mosquitto_is_refused_and_auto_takes_the_embedded(
    home: FleetHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr("fleet.service.brokers.mosquitto_available", lambda: "the guard cannot be built here")
    configure(home.home.config, driver="mosquitto")

    error = await refusal(home.home)
    configure(home.home.config, driver="auto")
    async with live(home, tmp_path) as fleet:
        driver = fleet.context.driver

    assert "the guard cannot be built here" in str(error)
    assert driver == "embedded"


async def test_a_home_that_is_none_says_so(tmp_path: Path) -> None:
    assert "no fleet home" in str(await refusal(Home(tmp_path)))


@pytest.fixture
def shut_home(home: FleetHome) -> Iterator[FleetHome]:
    """A home that its user may read and not write."""
    folders = [home.home.root, *(path for path in home.home.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield home
    for folder in folders:
        folder.chmod(0o755)


START = """
import asyncio, sys
from pathlib import Path
from fleet.errors import FleetError
from fleet.service import running

async def main():
    async with running(Path(sys.argv[1])):
        print("started")

try:
    asyncio.run(main())
except FleetError as error:
    print(type(error).__name__, error, error.hint, sep="|")
"""

AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Root without the right to write where nobody may."""


@pytest.mark.needs("setpriv")
async def test_a_read_only_home_is_refused_in_one_sentence(shut_home: FleetHome) -> None:
    command = [*AS_ANYBODY, sys.executable, "-c", START, str(shut_home.home.root)]

    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)

    kind, message, hint = done.stdout.strip().split("|")
    assert kind in {"BadInputError", "StoreError"}, done
    assert "cannot be written" in message or str(shut_home.home.root) in message
    assert hint != "None"


async def test_the_socket_alone_answers_where_no_server_runs(home: FleetHome, tmp_path: Path) -> None:
    async with live(home, tmp_path, listeners=Listeners.ADMIN_ONLY) as fleet:
        async with fleet.admin() as session, session.get("/healthz") as response:
            status = response.status
        assert not home.home.endpoints.exists()

    assert status == 200
    assert not home.home.admin_socket.exists()


async def test_sigterm_ends_the_service_in_good_order(home: FleetHome) -> None:
    seen: list[Endpoints] = []

    def ready(endpoints: Endpoints) -> None:
        seen.append(endpoints)
        os.kill(os.getpid(), signal.SIGTERM)

    await serve(home.home.root, ready=ready)

    assert seen
    assert not home.home.admin_socket.exists()


@pytest.mark.needs("mosquitto", "gcc")
async def test_a_managed_broker_goes_on_and_what_came_meanwhile_is_answered(
    managed: FleetHome, tmp_path: Path
) -> None:
    async with live(managed, tmp_path) as fleet:
        device = await fleet.enrolled("patient")
        port = fleet.context.endpoints.mqtt_port
    process = MosquittoProcess(Paths(folder=managed.home.broker))
    before = process.find()

    async with device.connected() as client:
        await client.subscribe(device.topics.response)
        await client.publish(device.topics.request, messages.encode(StatusQuery(id=uuid4().hex)))
        async with live(managed, tmp_path) as again:
            reply = messages.parse_reply((await client.receive()).body)
            after = process.find()

    assert before is not None
    assert after == before
    assert again.context.endpoints.mqtt_port == port
    assert isinstance(reply, Status)


@pytest.mark.needs("mosquitto", "gcc")
async def test_a_revocation_without_a_server_cuts_off_at_the_broker_that_was_left_running(
    managed: FleetHome, tmp_path: Path
) -> None:
    async with live(managed, tmp_path) as fleet:
        device = await fleet.enrolled("revoked")

    async with device.connected() as client:
        async with live(managed, tmp_path, listeners=Listeners.ADMIN_ONLY) as alone:
            receipt = await revoke(
                alone.context,
                ByDevice(identities=(device.identity,)),
                reason=RevocationReason.KEY_COMPROMISE,
                actor="operator:test",
            )
        await client.wait_closed()

    assert receipt.verified, receipt.problem
    assert len(receipt.sessions) == 1


@pytest.mark.needs("mosquitto", "gcc")
async def test_a_request_that_was_not_answered_before_a_crash_is_answered_after_it(
    managed: FleetHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = asyncio.Event()

    async def hang(*_arguments: object) -> None:
        taken.set()
        await asyncio.Event().wait()

    async with live(managed, tmp_path) as fleet:
        device = await fleet.enrolled("unlucky")
    async with device.connected() as client:
        await client.subscribe(device.topics.response)
        with monkeypatch.context() as patch:
            patch.setattr("fleet.channels.translate.answer_body", hang)
            async with live(managed, tmp_path):
                await client.publish(device.topics.request, messages.encode(StatusQuery(id="once")))
                await taken.wait()
        async with live(managed, tmp_path):
            reply = messages.parse_reply((await client.receive()).body)

    assert isinstance(reply, Status)
    assert reply.id == "once"


@pytest.mark.needs("mosquitto", "gcc")
async def test_a_code_that_came_while_the_server_was_away_lies_in_no_file_of_the_broker(
    managed: FleetHome, tmp_path: Path
) -> None:
    async with live(managed, tmp_path) as fleet:
        device, proof = await fleet.proof_for("early")
    assert proof.code is not None

    async with fleet.bootstrap("prod", device.unit.key_hash) as client:
        topics = EnrollTopics(client=device.unit.key_hash)
        await client.publish(topics.request, messages.encode(device.unit.enroll(proof)))
    process = MosquittoProcess(Paths(folder=managed.home.broker))
    running_one = process.find()
    assert running_one is not None
    await process.stop(running_one)  # it writes down what it keeps

    files = [path for path in managed.home.broker.rglob("*") if path.is_file()]
    assert any(path.name == "mosquitto.db" for path in files)
    assert not [path for path in files if proof.code.reveal().encode() in path.read_bytes()]
