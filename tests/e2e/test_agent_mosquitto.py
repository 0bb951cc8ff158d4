"""The agent's whole life over a real broker: enroll, connect, messages, renew, reconnect."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest

from device_agent.agent import Agent, ClaimFiles, MqttEnrollment
from device_agent.channels.mqtt import MqttOptions
from device_agent.config import Settings
from device_agent.core.stored import read_anchors
from device_agent.errors import ChannelError, NotAdmittedError
from device_agent.ports import OperationalLogin
from device_agent.tls import client_context
from device_agent.ways import NetworkWays
from device_agent.wire.identity import Identity
from device_agent.wire.secret import Secret
from fleet.model import CertificateState
from tests.broker_bench import Bench, running_broker, serving
from tests.pki import Pki, pem_of
from tests.provisioner import CODE, Provisioner
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto")

OPTIONS = MqttOptions(timeout=timedelta(seconds=5), reply_timeout=timedelta(seconds=5))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_broker(Provisioner().pki, tmp_path / "broker") as running:
        yield running


@pytest.fixture
def server(bench: Bench) -> Provisioner:
    provisioner = Provisioner()
    provisioner.broker = replace(provisioner.broker, port=bench.port)
    return provisioner


@pytest.fixture
async def link(bench: Bench, server: Provisioner) -> AsyncIterator[aiomqtt.Client]:
    async with serving(bench, server) as client:
        yield client


def settings(folder: Path) -> Settings:
    return Settings(
        state=folder / "state",
        mqtt=OPTIONS,
        patience=timedelta(),
        first_wait=timedelta(milliseconds=100),
    )


def enrollment(bench: Bench, *, trust: str | None = None) -> MqttEnrollment:
    certificate, key = bench.pki.claim().write(bench.folder, "claim")
    return MqttEnrollment(
        host="localhost",
        port=bench.port,
        device_id="d1",
        trust_pem=trust or (bench.folder / "servers.pem").read_text(),
        claim=ClaimFiles(certificate=certificate, key=key),
        code=Secret(CODE),
    )


async def test_a_device_enrolls_connects_and_renews_with_no_message_lost(
    bench: Bench, server: Provisioner, link: aiomqtt.Client, tmp_path: Path
) -> None:
    received: list[bytes] = []

    async def read(agent: Agent) -> None:
        async with agent.messages("down/#") as messages:
            async for message in messages:
                received.append(message.payload)  # noqa: PERF401 - it never ends

    with Agent.opened(settings(tmp_path)) as agent:
        await agent.enroll_mqtt(enrollment(bench))
        async with agent.connected(), asyncio.TaskGroup() as group:
            await agent.ready()
            reading = group.create_task(read(agent))
            await agent.publish("up", b"first")
            for number in range(40):
                await agent.publish("up", b"%d" % number)
                await link.publish("devices/prod/d1/down/n", b"%d" % number, qos=1)
                if number % 10 == 5:
                    await agent.renew()
            await until(lambda: len(set(received)) == 40)
            reading.cancel()
    sent = {body for topic, body in server.seen if topic == "devices/prod/d1/up"}
    assert sent == {b"first", *(b"%d" % number for number in range(40))}
    states = list(server.states().values())
    assert states == [CertificateState.SUPERSEDED_ACKED] * 4 + [CertificateState.ACTIVE]


async def test_a_burst_that_arrives_during_renewals_is_handed_out_to_the_last_message(
    bench: Bench, server: Provisioner, link: aiomqtt.Client, tmp_path: Path
) -> None:
    received: list[bytes] = []

    async def read(agent: Agent) -> None:
        async with agent.messages("down/#") as messages:
            async for message in messages:
                received.append(message.payload)  # noqa: PERF401 - it never ends

    async def send() -> None:
        for number in range(600):
            await link.publish("devices/prod/d1/down/n", b"%d" % number, qos=1)

    with Agent.opened(settings(tmp_path)) as agent:
        await agent.enroll_mqtt(enrollment(bench))
        async with agent.connected(), asyncio.TaskGroup() as group:
            reading = group.create_task(read(agent))
            await agent.ready()
            sending = group.create_task(send())
            while not sending.done():
                await agent.renew()
            await until(lambda: len(set(received)) == 600)
            reading.cancel()


async def test_a_server_whose_root_is_not_trusted_is_not_told_the_code(
    bench: Bench, server: Provisioner, link: aiomqtt.Client, tmp_path: Path
) -> None:
    stranger = pem_of(Pki().roots["fleet"].certificate).decode()
    with Agent.opened(settings(tmp_path)) as agent, pytest.raises(ChannelError) as caught:
        await agent.enroll_mqtt(enrollment(bench, trust=stranger))
    assert "--trust" in (caught.value.hint or "")
    assert server.states() == {}


async def test_a_broker_that_is_not_there_is_one_clear_error(bench: Bench, tmp_path: Path) -> None:
    wanted = replace(enrollment(bench), port=1)
    with Agent.opened(settings(tmp_path)) as agent, pytest.raises(ChannelError, match="localhost:1"):
        await agent.enroll_mqtt(wanted)


async def test_a_server_that_does_not_answer_is_a_time_out_and_leaves_the_key(
    bench: Bench, tmp_path: Path
) -> None:
    quick = replace(settings(tmp_path), mqtt=replace(OPTIONS, reply_timeout=timedelta(seconds=0.3)))
    with Agent.opened(quick) as agent:
        with pytest.raises(ChannelError, match="no reply to enroll"):
            await agent.enroll_mqtt(enrollment(bench))
        assert agent.record.life.pending is not None


async def test_a_certificate_that_the_broker_turns_away_in_tls_is_told_from_a_broker_that_is_away(
    bench: Bench, tmp_path: Path
) -> None:
    """PROTOCOL: what is refused is the credential, so the next rung of the ladder may help."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    leaf = bench.pki.device("d1", not_after=past.replace(microsecond=0))
    context = client_context(read_anchors((bench.folder / "servers.pem").read_text()))
    context.load_cert_chain(*leaf.write(tmp_path, "d1"))
    login = OperationalLogin(
        host="localhost",
        port=bench.port,
        identity=Identity(domain="prod", device_id="d1"),
        serial=leaf.serial,
        tls=context,
    )
    with pytest.raises(NotAdmittedError):
        async with NetworkWays(OPTIONS).operational(login, Nobody()):
            pass


async def test_connecting_can_be_cancelled_at_any_time(
    bench: Bench, server: Provisioner, tmp_path: Path
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        enrolling = asyncio.ensure_future(agent.enroll_mqtt(enrollment(bench)))
        for _ in range(20):
            await asyncio.sleep(0)
        enrolling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await enrolling


class Nobody:
    def message(self, topic: str, payload: bytes) -> None:
        raise AssertionError(topic)

    def lost(self, why: str) -> None:
        pass


def run_agent(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "device_agent.cli", "--state", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_the_command_enrolls_runs_renews_on_hangup_and_tells_its_status(
    bench: Bench, server: Provisioner, link: aiomqtt.Client, tmp_path: Path
) -> None:
    state, wanted = tmp_path / "state", enrollment(bench)
    (tmp_path / "code").write_text(CODE + "\n")
    enrolled = await asyncio.to_thread(
        run_agent,
        state,
        *("enroll", "--mqtt", f"localhost:{bench.port}", "--device", "d1", "--json"),
        *("--code-file", str(tmp_path / "code"), "--trust", str(bench.folder / "servers.pem")),
        *("--claim", f"{wanted.claim.certificate},{wanted.claim.key}"),
    )
    assert (enrolled.returncode, json.loads(enrolled.stdout)["name"]) == (0, "prod:d1"), enrolled.stderr
    assert CODE not in enrolled.stderr
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device_agent.cli", "--state", str(state), "run"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until((state / "agent.sock").exists)
        first = json.loads((await asyncio.to_thread(run_agent, state, "renew", "--json")).stdout)
        assert first["serial"] > json.loads(enrolled.stdout)["serial"]
        process.send_signal(signal.SIGHUP)
        await until(lambda: len(server.live) == 1 and max(server.live) > first["serial"])
        status = json.loads((await asyncio.to_thread(run_agent, state, "status", "--json")).stdout)
        assert (status["running"], status["connected"]) == (True, True)
        second = await asyncio.to_thread(run_agent, state, "run")
        assert (second.returncode, second.stderr.splitlines()[0]) == (
            1,
            f"error: another agent process works in {state}",
        )
        doctor = await asyncio.to_thread(run_agent, state, "doctor")
        assert doctor.returncode == 0, doctor.stdout
        assert all(line.startswith("ok ") for line in doctor.stdout.splitlines())
    finally:
        process.terminate()
        await process.wait()
    assert process.returncode == 0
    assert not (state / "agent.sock").exists()


async def test_the_service_manager_is_told_when_the_agent_is_up(
    bench: Bench, server: Provisioner, link: aiomqtt.Client, tmp_path: Path
) -> None:
    with Agent.opened(settings(tmp_path)) as agent:
        await agent.enroll_mqtt(enrollment(bench))
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[bytes] = asyncio.Queue()

    class Manager(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            told.put_nowait(data)

    path = tmp_path / "notify"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    transport, _ = await loop.create_datagram_endpoint(Manager, sock=listener)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "device_agent.cli", "--state", str(tmp_path / "state"), "run"),
        env={**os.environ, "NOTIFY_SOCKET": str(path)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            assert await told.get() == b"READY=1"
    finally:
        process.terminate()
        await process.wait()
        transport.close()
