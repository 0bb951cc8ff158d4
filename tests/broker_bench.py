"""A real Mosquitto with a test fleet's certificates and a server behind it, to test the channels of devices.

The broker asks for a certificate and takes the user name from it, and no more: the product's own drivers
and their rules have tests of their own.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt

from device_agent.channels.memory import Heard
from device_agent.core.events import Route
from device_agent.wire.messages import encode, parse_request
from device_agent.wire.topics import ENROLL_REQUESTS, OPERATIONAL_REQUESTS, parse_operational_request
from tests.pki import Pki, pem_of
from tests.provisioner import Provisioner

_HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A broker that runs."""

    pki: Pki
    folder: Path
    port: int

    def context(self, name: str) -> ssl.SSLContext:
        """Return a client context with the certificate `<name>.crt`."""
        context = ssl.create_default_context(cafile=str(self.folder / "servers.pem"))
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context


@asynccontextmanager
async def running_broker(pki: Pki, folder: Path) -> AsyncIterator[Bench]:
    """Run Mosquitto with one listener that every certificate of the fleet opens."""
    port = free_port()
    pki.server("localhost", _HOST).write(folder, "server")
    pki.service().write(folder, "service")
    (folder / "servers.pem").write_bytes(pem_of(pki.roots["fleet"].certificate))
    (folder / "clients.pem").write_bytes(b"".join(pem_of(root.certificate) for root in pki.roots.values()))
    (folder / "mosquitto.conf").write_text(
        f"listener {port} {_HOST}\ncafile {folder}/clients.pem\ncertfile {folder}/server.crt\n"
        f"keyfile {folder}/server.key\nrequire_certificate true\nuse_identity_as_username true\n"
        f"allow_anonymous false\nset_tcp_nodelay true\npersistence false\nuser root\n"
    )
    process = await asyncio.create_subprocess_exec(
        "mosquitto", "-c", str(folder / "mosquitto.conf"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _answering(port)
        yield Bench(pki=pki, folder=folder, port=port)
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def serving(bench: Bench, server: Provisioner) -> AsyncIterator[aiomqtt.Client]:
    """Answer what devices ask with the server in memory; gives the client that does it."""
    client = aiomqtt.Client(
        "localhost",
        bench.port,
        identifier="server",
        tls_context=bench.context("service"),
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    async with client, asyncio.TaskGroup() as group:
        for topic in (ENROLL_REQUESTS, OPERATIONAL_REQUESTS, "devices/#", "fleet/v1/+/+/state"):
            await client.subscribe(topic, qos=1)
        task = group.create_task(_answer(client, server))
        yield client
        task.cancel()


async def _answer(client: aiomqtt.Client, server: Provisioner) -> None:
    async for message in client.messages:
        topic, body = message.topic.value, message.payload
        if not topic.endswith("/request"):
            server.seen.append((topic, body))
            continue
        if topic.startswith("fleet/v1/enroll/"):
            heard = Heard(route=Route.CLAIM, client=topic.split("/")[3])
        else:
            heard = Heard(route=Route.ACTIVE, serial=parse_operational_request(topic).serial)
        reply = server.answer(heard, parse_request(body))
        await client.publish(topic.removesuffix("request") + "response", encode(reply), qos=1)


async def _answering(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(_HOST, port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
