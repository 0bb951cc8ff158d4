"""A company's service for tests: a real HTTPS receiver that signs its answers, or does what none should."""

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.pki import Authority, pem_of

SECRET = "5f" * 32
Answer = Callable[["Receiver", web.Request, bytes], Awaitable[web.StreamResponse]]


def signature(body: bytes, *, at: int, answers: str = "", secret: str = SECRET) -> str:
    """Return a Fleet-Signature, as the guide says that it is made."""
    kind = b"fleet-webhook-answer-v1" if answers else b"fleet-webhook-question-v1"
    text = b"\0".join((kind, str(at).encode(), answers.encode(), body))
    return f"t={at},v1={hmac.digest(secret.encode(), text, hashlib.sha256).hex()}"


@dataclass(kw_only=True)
class Receiver:
    """What it was asked, and what it says."""

    says: dict[str, object] = field(default_factory=lambda: {"decision": "allow"})
    answer: Answer | None = None
    asked: list[dict[str, object]] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    secret: str = SECRET
    url: str = ""
    ca: Path = Path()
    began: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append(json.loads(body))
        self.signatures.append(request.headers["Fleet-Signature"])
        self.bodies.append(body)
        self.began.set()
        return await (self.answer or signed)(self, request, body)

    def answering(self, body: bytes, **members: object) -> bytes:
        question = json.loads(body)
        return json.dumps({"v": 1, "id": question["id"], **self.says, **members}).encode()


async def signed(receiver: Receiver, _request: web.Request, body: bytes) -> web.StreamResponse:
    """Answer as a service should."""
    said = receiver.answering(body)
    mark = signature(said, at=int(time.time()), answers=str(json.loads(body)["id"]), secret=receiver.secret)
    return web.Response(body=said, headers={"Fleet-Signature": mark}, content_type="application/json")


@asynccontextmanager
async def receiving(folder: Path) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of loopback, under the name localhost."""
    root = Authority.root("Company Root")
    certificate, key = root.leaf(
        "localhost", usages=(ExtendedKeyUsageOID.SERVER_AUTH,), hosts=("localhost",)
    ).write(folder, "hook")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    receiver = Receiver(ca=folder / "company.pem")
    receiver.ca.write_bytes(pem_of(root.certificate))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"https://localhost:{port}/devices"
    try:
        yield receiver
    finally:
        await runner.cleanup()
