"""The guide's programs hold a device's connection, under load, while its agent renews: nothing is lost."""

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import pytest

from device_agent import control
from device_agent.background import in_background
from device_agent.store import CURRENT
from tests.agents import enrolled
from tests.broker_bench import free_port
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import client_context

GUIDE = Path(__file__).parents[2] / "docs/how-to/share-the-identity.md"
AGENT = Path(sys.executable).with_name("device-agent")
MESSAGES = 400
RENEWALS = 3

pytestmark = pytest.mark.needs("mosquitto", "gcc")


def block(language: str) -> str:
    """Return the one block of the page that is in this language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return str(found)


@dataclass(kw_only=True)
class Bench:
    """A device whose agent lends its connection, and what its fleet has heard of it."""

    fleet: LiveFleet
    state: Path
    heard: set[str] = field(default_factory=set)

    async def renew(self) -> str:
        told = await asyncio.to_thread(control.ask, self.state / "agent.sock", "renew")
        assert told is not None
        assert told.error == ""
        return str(told.members["serial"])

    async def connects_by(self, serial: str) -> None:
        """Wait until the device's one connection is by this certificate."""
        async with asyncio.timeout(60):
            while await self._serials() != {serial}:  # noqa: ASYNC110 - another process connects
                await asyncio.sleep(0.02)

    async def _serials(self) -> set[str]:
        return {one.serial for one in await self.fleet.context.broker.sessions() if one.name == "prod:d1"}

    async def listen(self) -> None:
        """Read what the device sends, as an application of the fleet does."""
        home, port = self.fleet.home.home, self.fleet.context.endpoints.mqtt_port
        tls = client_context(
            trust=home.server_trust, certificate=home.service.certificate, key=home.service.key
        )
        async with aiomqtt.Client(
            "localhost", port, identifier="fleet-server.test", tls_context=tls, max_queued_incoming_messages=0
        ) as client:
            await client.subscribe("devices/prod/d1/#", qos=1)
            async for message in client.messages:
                self.heard.add(bytes(message.payload).decode())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("shared") / "home", driver="mosquitto")


@pytest.fixture
async def bench(home: FleetHome, tmp_path: Path) -> AsyncIterator[Bench]:
    async with live(home, tmp_path) as fleet:
        async with AsyncExitStack() as stack:
            state = (await enrolled(fleet, stack, "d1")).settings.state
        (state / "post-renew.d").mkdir(mode=0o755)
        found = Bench(fleet=fleet, state=state)
        async with in_background(found.listen()):
            yield found


@asynccontextmanager
async def process(
    *command: str | Path, stdin: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    made = await asyncio.create_subprocess_exec(*command, stdin=stdin)
    try:
        yield made
    finally:
        if made.returncode is None:
            made.terminate()
        await made.wait()


@asynccontextmanager
async def lending(bench: Bench, *options: str) -> AsyncIterator[None]:
    async with process(AGENT, "--state", bench.state, "run", *(options or ("--lend",))):
        await until((bench.state / "agent.sock").exists)
        yield


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.02)


async def test_a_program_in_python_loses_no_message_over_renewals(bench: Bench, tmp_path: Path) -> None:
    script, pid = tmp_path / "telemetry.py", tmp_path / "telemetry.pid"
    script.write_text(block("python"))
    hook = bench.state / "post-renew.d" / "10-telemetry"
    hook.write_text(block("sh").replace("/run/telemetry.pid", str(pid)))
    hook.chmod(0o755)
    command = (AGENT, "--state", bench.state, "exec", "--", sys.executable, script)
    async with process(*command, stdin=asyncio.subprocess.PIPE) as telemetry, lending(bench):
        assert telemetry.stdin is not None
        telemetry.stdin.write(b"first\n")
        await until(lambda: "first" in bench.heard)
        pid.write_text(str(telemetry.pid))
        for number in range(MESSAGES):
            telemetry.stdin.write(b"%d\n" % number)
            await telemetry.stdin.drain()
            if number % (MESSAGES // RENEWALS) == 50:
                serial = await bench.renew()
        await until(lambda: len(bench.heard) == MESSAGES + 1)
        await bench.connects_by(serial)
        telemetry.stdin.close()
        assert await telemetry.wait() == 0


async def test_a_bridge_loses_no_message_over_renewals(bench: Bench, tmp_path: Path) -> None:
    port, store = free_port(), tmp_path / "store"
    store.mkdir()
    config = block("conf").replace(
        "fleet.example:8883", f"localhost:{bench.fleet.context.endpoints.mqtt_port}"
    )
    config = config.replace("line3-0042", "d1").replace("/var/lib/mosquitto/", f"{store}/")
    config = config.replace("/var/lib/device-agent/current", str(bench.state / CURRENT))
    path = tmp_path / "mosquitto.conf"
    path.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {os.environ.get('USER', 'root')}\n{config}"
    )
    async with process("mosquitto", "-c", path), lending(bench):
        await answering(port)
        async with aiomqtt.Client("127.0.0.1", port) as application:
            await application.publish("up/n", "first", qos=1)
            await until(lambda: "first" in bench.heard)
            for number in range(MESSAGES):
                await application.publish("up/n", str(number), qos=1)
                if number % (MESSAGES // RENEWALS) == 50:
                    serial = await bench.renew()
        await until(lambda: len(bench.heard) == MESSAGES + 1)
        await bench.connects_by(serial)


async def test_a_program_on_the_agent_s_socket_loses_no_message_over_renewals(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "share.sock"
    serials = []
    async with lending(bench, "--share", str(path)):
        reader, writer = await asyncio.open_unix_connection(str(path))
        for number in range(MESSAGES):
            payload = base64.b64encode(b"%d" % number).decode()
            asked = {"do": "publish", "id": str(number), "topic": "up", "payload": payload}
            writer.write(json.dumps(asked).encode() + b"\n")
            await writer.drain()
            if number % (MESSAGES // RENEWALS) == 50:
                serials.append(await bench.renew())
        answers = [json.loads(await reader.readline()) for _ in range(MESSAGES)]
        writer.close()
        assert {answer["exit"] for answer in answers} == {0}
        assert len({answer["id"] for answer in answers}) == MESSAGES
        await until(lambda: {str(number) for number in range(MESSAGES)} <= bench.heard)
        await bench.connects_by(serials[-1])


async def answering(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
