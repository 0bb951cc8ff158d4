"""A small client over MQTT, written by the profile alone, and broken ones: each breaks one rule."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import aiomqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.cli.conformance.workshop import Pair, Workshop
from tests.factory_floor import make_csr
from tests.pki import key_pem

_KNOWN = {
    *("v", "id", "type", "serial", "certificate", "chain", "trust", "link", "attempt_floor", "renew_after"),
    *("broker", "code", "detail", "retry", "retry_after", "recovery"),
}


class Key:
    """A key with its request."""

    def __init__(self, device_id: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.load_der_x509_csr(make_csr(self.key, device_id))
        self.csr = csr.public_bytes(Encoding.PEM).decode()
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        self.hash = digest.finalize().hex()


@dataclass
class PlainClient:
    """Enrolls, confirms, and renews once; whatever goes wrong is tried again after a moment."""

    workshop: Workshop
    claim: Pair
    port: int
    folder: Path
    code: str
    device_id: str = "d1"
    key: Key = field(init=False)
    attempt: int = 1
    qos: int = 1
    is_retained: bool = False
    listens_first: bool = True

    def __post_init__(self) -> None:
        self.key = Key(self.device_id)

    async def live(self) -> None:
        issued = await self.certified(None)
        await self.confirmed(issued)
        before, self.key = self.key, self.next_key(self.key)
        await self.wait_until(issued)
        renewed = await self.certified((before, issued))
        await self.confirmed(renewed)
        await asyncio.Event().wait()

    async def certified(self, by: tuple[Key, dict[str, object]] | None) -> dict[str, object]:
        """Ask until there is an answer that may be used."""
        while True:
            with suppress(aiomqtt.MqttError, ssl.SSLError):
                async with self.connection(by) as (client, topics):
                    answer = await self.ask(client, topics, self.request(by))
                    if self.accepts(answer):
                        return answer
                await self.pause(answer)
                continue
            await asyncio.sleep(0.05)
            self.after_loss()

    async def confirmed(self, issued: dict[str, object]) -> None:
        while True:
            with suppress(aiomqtt.MqttError, ssl.SSLError):
                async with self.connection((self.key, issued)) as (client, topics):
                    await self.ask(client, self.confirm_topics(topics), {"type": "confirm"})
                    return
            await asyncio.sleep(0.05)

    def request(self, by: object) -> dict[str, object]:
        if by is not None:
            return {"type": "renew", "csr": self.key.csr, "anchors": [], "attempt": self.attempt}
        return {
            "type": "enroll",
            "device_id": self.device_id,
            "csr": self.key.csr,
            "anchors": [],
            "proof": {"kind": "code", "code": self.code},
        }

    async def ask(
        self, client: aiomqtt.Client, topics: tuple[str, str], request: dict[str, object]
    ) -> dict[str, object]:
        message_id = str(uuid4())
        body = json.dumps({"v": 1, "id": message_id} | request)
        if self.listens_first:
            await client.subscribe(topics[1], qos=1)
        await client.publish(topics[0], body, qos=self.qos, retain=self.is_retained)
        if not self.listens_first:
            await client.subscribe(topics[1], qos=1)
        async for message in client.messages:
            answer = json.loads(bytes(message.payload))  # type: ignore[arg-type]  # bytes, always
            if self.is_mine(answer, message_id):
                return self.read(answer)
        raise aiomqtt.MqttError("the connection ended")

    def is_mine(self, answer: dict[str, object], message_id: str) -> bool:
        return answer.get("id") == message_id

    def read(self, answer: dict[str, object]) -> dict[str, object]:
        return answer

    def accepts(self, answer: dict[str, object]) -> bool:
        if answer["type"] != "issued":
            return False
        leaf = x509.load_pem_x509_certificate(str(answer["certificate"]).encode())
        above = x509.load_pem_x509_certificate(str(answer["chain"]).encode())
        return leaf.public_key() == self.key.key.public_key() and above == self.workshop.devices.certificate

    async def pause(self, answer: dict[str, object]) -> None:
        await asyncio.sleep(float(str(answer.get("retry_after", 0.05))))

    def after_loss(self) -> None:
        """The connection ended without an answer."""

    def next_key(self, _before: Key) -> Key:
        return Key(self.device_id)

    async def wait_until(self, issued: dict[str, object]) -> None:
        due = datetime.fromisoformat(str(issued["renew_after"]))
        await asyncio.sleep((due - datetime.now(UTC)).total_seconds())

    def confirm_topics(self, topics: tuple[str, str]) -> tuple[str, str]:
        return topics

    def client_id(self, by: tuple[Key, dict[str, object]] | None) -> str:
        return self.key.hash if by is None else f"prod:{self.device_id}"

    @asynccontextmanager
    async def connection(
        self, by: tuple[Key, dict[str, object]] | None
    ) -> AsyncIterator[tuple[aiomqtt.Client, tuple[str, str]]]:
        if by is None:
            pem, key = self.claim.pem + self.workshop.servers.pem, self.claim.key_pem.encode()
            base = f"fleet/v1/enroll/{self.client_id(by)}"
        else:
            pem, key = f"{by[1]['certificate']}{by[1]['chain']}", key_pem(by[0].key)
            base = f"fleet/v1/prod/{self.device_id}/{by[1]['serial']}"
        async with aiomqtt.Client(
            "localhost", self.port, identifier=self.client_id(by), tls_context=self._tls(pem, key), timeout=5
        ) as client:
            yield client, (f"{base}/request", f"{base}/response")

    def _tls(self, pem: str, key: bytes) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.workshop.servers_root.pem)
        path = self.folder / "pair.pem"
        path.write_bytes(pem.encode() + key)
        context.load_cert_chain(path)
        return context


class WrongClientId(PlainClient):
    def client_id(self, by: tuple[Key, dict[str, object]] | None) -> str:
        return "0" * 64 if by is None else super().client_id(by)


class WrongCode(PlainClient):
    def request(self, by: object) -> dict[str, object]:
        return super().request(by) | {"proof": {"kind": "code", "code": "guessed"}}


class NoCsr(PlainClient):
    def request(self, by: object) -> dict[str, object]:
        return super().request(by) | {"csr": "none"}


class NewKeyAfterLoss(PlainClient):
    def after_loss(self) -> None:
        self.key = Key(self.device_id)


class Impatient(PlainClient):
    async def pause(self, answer: dict[str, object]) -> None:
        await asyncio.sleep(0.05)


class Credulous(PlainClient):
    """Takes whatever is issued."""

    def accepts(self, answer: dict[str, object]) -> bool:
        return answer["type"] == "issued"


class Strict(PlainClient):
    """Understands no member of a later version."""

    def read(self, answer: dict[str, object]) -> dict[str, object]:
        is_right = answer["type"] == "issued" and super().accepts(answer)
        return {"type": "problem"} if is_right and not answer.keys() <= _KNOWN else answer


class ConfirmsElsewhere(PlainClient):
    def confirm_topics(self, topics: tuple[str, str]) -> tuple[str, str]:
        return f"fleet/v1/prod/{self.device_id}/{'0' * 32}/request", topics[1]


class ConfirmsOnce(PlainClient):
    async def confirmed(self, issued: dict[str, object]) -> None:
        with suppress(aiomqtt.MqttError):
            async with self.connection((self.key, issued)) as (client, topics):
                await self.ask(client, topics, {"type": "confirm"})


class TakesAnyAnswer(PlainClient):
    def is_mine(self, answer: dict[str, object], message_id: str) -> bool:
        return True


class KeepsItsKey(PlainClient):
    def next_key(self, before: Key) -> Key:
        return before


class RenewsEarly(PlainClient):
    async def wait_until(self, issued: dict[str, object]) -> None:
        pass


class CountsUpAfterLoss(PlainClient):
    def after_loss(self) -> None:
        self.attempt += 1


class NoAttempt(PlainClient):
    def request(self, by: object) -> dict[str, object]:
        return {name: value for name, value in super().request(by).items() if name != "attempt"}


class QosZero(PlainClient):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.qos = 0


class Retains(PlainClient):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.is_retained = True


class AsksBeforeItListens(PlainClient):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.listens_first = False
