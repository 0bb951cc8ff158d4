"""`fleet serve` in a process that can be killed, and devices that go on where they were interrupted."""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Self

import aiohttp
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.wire import messages
from device_agent.wire.identity import Identity
from device_agent.wire.messages import Reply, Request
from device_agent.wire.replies import Confirmed, DoneAck, Issued
from device_agent.wire.requests import Confirm, Done, Proof, Renew
from device_agent.wire.topics import EnrollTopics, OperationalTopics
from fleet.home import Home
from tests.desk import Unit
from tests.live import LiveFleet, ask
from tests.mqtt import ClosedError, MqttClient, NotLetInError, client_context

STEPS = 10
"""A device that comes through sends five requests and gets five answers."""

_SERVE = "from fleet.cli import main; main()"
_START_SECONDS = 60


class TurnedAwayError(Exception):
    """The server said no, or the broker closed the connection."""


@dataclass(kw_only=True)
class Fuse:
    """Goes off after so many steps of devices."""

    left: int
    gone_off: asyncio.Event = field(default_factory=asyncio.Event)

    def step(self) -> None:
        self.left -= 1
        if self.left <= 0:
            self.gone_off.set()


@dataclass(kw_only=True)
class KillableServer:
    """`fleet serve`, ready."""

    home: Home
    process: asyncio.subprocess.Process
    ports: dict[str, int]

    @classmethod
    async def start(cls, home: Home) -> Self:
        log = home.root.parent / "serve.log"
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _SERVE, "serve", "--home", str(home.root)),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        assert process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            said = await process.stdout.readline()
        assert said == b"ready\n", log.read_text()
        endpoints = json.loads(home.endpoints.read_text())
        return cls(home=home, process=process, ports={name: at["port"] for name, at in endpoints.items()})

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def revoke(self, device_id: str) -> bool:
        """Revoke a device, and say whether the server said that it is done."""
        connector = aiohttp.UnixConnector(path=str(self.home.admin_socket))
        body = {"domain": "prod", "device_id": device_id, "reason": "keyCompromise"}
        async with (
            aiohttp.ClientSession("http://fleet", connector=connector) as session,
            session.post("/api/v1/revocations", json=body) as response,
        ):
            return response.status == HTTPStatus.OK


@dataclass(kw_only=True)
class Member:
    """A device: enrolls, confirms, renews, confirms, is done; repeats what was not answered."""

    home: Home
    folder: Path
    identity: Identity
    proof: Proof
    first: Unit
    second: Unit
    answers: dict[str, Issued] = field(default_factory=dict)
    """By the hash of the key that they are for."""
    confirmed: set[str] = field(default_factory=set)
    is_done: bool = False
    is_condemned: bool = False
    """Somebody is revoking it."""
    is_revoked: bool = False
    """The server said that it is."""

    async def live_through(self, ports: dict[str, int], fuse: Fuse) -> None:
        """Go on from where this device was.

        Raises:
            TurnedAwayError: it may not.
        """
        try:
            await self._live_through(ports, fuse)
        except (NotLetInError, ClosedError) as error:
            raise TurnedAwayError from error

    async def _live_through(self, ports: dict[str, int], fuse: Fuse) -> None:
        if self.second.key_hash not in self.answers:
            await self._enroll(ports, fuse)
            await self._confirm(self.first, ports, fuse)
            renew = Renew(id="r", csr=self.second.csr, attempt=1)
            self._take(self.second, await self._ask(self.first, renew, ports, fuse))
        await self._confirm(self.second, ports, fuse)
        reply = await self._ask(self.second, Done(id="d"), ports, fuse)
        if not isinstance(reply, DoneAck):
            raise TurnedAwayError(reply)
        self.is_done = True

    def _take(self, unit: Unit, reply: Reply) -> None:
        if not isinstance(reply, Issued):
            raise TurnedAwayError(reply)
        self.answers[unit.key_hash] = reply

    async def is_let_in(self, issued: Issued, ports: dict[str, int]) -> bool:
        """Say whether the broker lets this certificate in."""
        unit = self.first if self.answers.get(self.first.key_hash) == issued else self.second
        try:
            async with self._connected(unit, ports):
                return True
        except NotLetInError:
            return False

    async def _enroll(self, ports: dict[str, int], fuse: Fuse) -> None:
        if self.first.key_hash in self.answers:
            return
        claim = self.home.public_claim("prod")
        tls = client_context(trust=self.home.server_trust, certificate=claim.certificate, key=claim.key)
        client = await MqttClient.open(tls, port=ports["mqtt_bootstrap"])
        try:
            assert await client.connect(self.first.key_hash) == 0
            topics = EnrollTopics(client=self.first.key_hash)
            fuse.step()
            reply = await ask(client, topics, messages.encode(self.first.enroll(self.proof)))
            fuse.step()
        finally:
            await client.close()
        self._take(self.first, reply)

    async def _confirm(self, unit: Unit, ports: dict[str, int], fuse: Fuse) -> None:
        serial = self.answers[unit.key_hash].serial
        if serial not in self.confirmed:
            reply = await self._ask(unit, Confirm(id="c"), ports, fuse)
            if not isinstance(reply, Confirmed):
                raise TurnedAwayError(reply)
            self.confirmed.add(serial)

    async def _ask(self, unit: Unit, request: Request, ports: dict[str, int], fuse: Fuse) -> Reply:
        async with self._connected(unit, ports) as client:
            topics = OperationalTopics(identity=self.identity, serial=self.answers[unit.key_hash].serial)
            fuse.step()
            reply = await ask(client, topics, messages.encode(request))
            fuse.step()
            return reply

    @asynccontextmanager
    async def _connected(self, unit: Unit, ports: dict[str, int]) -> AsyncIterator[MqttClient]:
        client = await MqttClient.open(self._tls(unit), port=ports["mqtt"])
        try:
            if await client.connect(self.identity.name) != 0:
                raise NotLetInError("the broker refused it")
            yield client
        finally:
            await client.close()

    def _tls(self, unit: Unit) -> ssl.SSLContext:
        issued = self.answers[unit.key_hash]
        certificate = self.folder / f"{issued.serial}.crt"
        key = certificate.with_suffix(".key")
        certificate.write_text(issued.certificate + issued.chain)
        key.write_bytes(unit.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return client_context(trust=self.home.server_trust, certificate=certificate, key=key)


async def joining(fleet: LiveFleet, device_id: str) -> Member:
    """Register a device, give out a code for it, and return it."""
    device, proof = await fleet.proof_for(device_id)
    return Member(
        home=fleet.home.home,
        folder=fleet.folder,
        identity=device.identity,
        proof=proof,
        first=device.unit,
        second=Unit(device_id=device_id),
    )
