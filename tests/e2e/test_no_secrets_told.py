"""A whole life, as talkative as it gets: no key, no code and no PIN in any log, event, answer or topic."""

import asyncio
import base64
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from device_agent import control
from device_agent.diary import read_events
from device_agent.wire.identity import Identity
from fleet.ra.people.claims import CodeOrder, create_codes
from tests.homes import FleetHome
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, client_context
from tests.programs import Ended, run
from tests.tokens import PIN, SoftHsm
from tests.waiting import until

pytestmark = pytest.mark.needs("mosquitto", "gcc", "softhsm2-util")

AGENT = (sys.executable, "-m", "device_agent.cli", "--verbose")
DEVICE = "talks-1"


@dataclass
class Secrets:
    """What nobody may tell, in every form in which it could slip out."""

    forms: set[tuple[str, str]] = field(default_factory=set)
    """What it is, and the pattern by which it is found."""

    def add(self, name: str, secret: bytes) -> None:
        self.forms.add((name, re.escape(secret.decode("latin-1"))))
        self.forms.add((f"{name} in hex", f"(?i){secret.hex()}"))
        # Whatever stands before it shifts base64 by 0, 1 or 2 octets; the edges depend on the neighbours.
        for shift in range(3):
            inner = base64.b64encode(bytes(shift) + secret).decode()[4 if shift else 0 :].rstrip("=")[:-2]
            self.forms.add((f"{name} in base64", re.escape(inner)))

    def add_code(self, code: str) -> None:
        self.add("code", code.encode())
        self.add("code without hyphens", code.replace("-", "").encode())

    def add_pin(self, pin: str) -> None:
        self.forms.add(("PIN", rf"(?<![0-9a-f]){pin}(?![0-9a-f])"))

    def add_keys(self, folder: Path) -> None:
        """Add the private keys in the files of a folder."""
        for path in folder.glob("*.pem"):
            key = load_pem_private_key(path.read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            number = key.private_numbers().private_value
            self.add(f"key {path.name}", number.to_bytes(32, "big"))
            self.forms.add((f"key {path.name} as a number", str(number)))

    def found_in(self, text: str) -> list[str]:
        return [name for name, pattern in sorted(self.forms) if re.search(pattern, text)]


@dataclass
class Life:
    """The device, and all that it has said."""

    fleet: LiveFleet
    secrets: Secrets = field(default_factory=Secrets)
    said: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.fleet.folder / "state"

    async def call(self, *arguments: str | Path, code: int = 0) -> Ended:
        self.secrets.add_keys(self.state / "keys")
        ended = await run(*AGENT, "--state", self.state, *arguments, folder=self.fleet.folder)
        self.said.append(ended.said)
        assert ended.code == code, ended.talk
        self.secrets.add_keys(self.state / "keys")
        return ended

    async def code_file(self, domain: str) -> Path:
        order = CodeOrder(
            identities=(Identity(domain=domain, device_id=DEVICE),),
            actor="operator:test",
            lifetime=timedelta(days=1),
        )
        (made,) = await create_codes(self.fleet.context, order)
        self.secrets.add_code(made.code.reveal())
        path = self.fleet.folder / f"code-{domain}"
        path.write_text(made.code.reveal())
        return path

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        command = [*AGENT, "--state", str(self.state), "run", "--signer", str(self.state / "signer.sock")]
        log = self.fleet.folder / "run.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(*command, stderr=file, env=dict(os.environ))
        try:
            yield
        finally:
            self.secrets.add_keys(self.state / "keys")
            process.send_signal(signal.SIGTERM)
            await process.wait()
            self.said.append(log.read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> FleetHome:
    return make_live_home(tmp_path_factory.mktemp("talks") / "home", driver="mosquitto")


@pytest.fixture
async def life(home: FleetHome, tmp_path: Path) -> AsyncIterator[Life]:
    async with live(home, tmp_path) as running:
        yield Life(fleet=running)


@pytest.fixture
def token(tmp_path: Path) -> Iterator[str]:
    with SoftHsm.at(tmp_path / "softhsm") as hsm:
        yield hsm.token().uri


async def states(fleet: LiveFleet) -> str:
    """Return what is retained on the state topics."""
    service = fleet.home.home.service
    tls = client_context(trust=fleet.home.home.server_trust, certificate=service.certificate, key=service.key)
    client = await MqttClient.open(tls, port=fleet.context.endpoints.mqtt_port)
    try:
        assert await client.connect("fleet-server.listens") == 0
        for domain in ("prod", "lab"):
            await client.subscribe(f"fleet/v1/{domain}/{DEVICE}/state")
        return "\n".join([(await client.receive()).body.decode() for _ in range(2)])
    finally:
        await client.close()


async def test_no_secret_is_told_in_a_whole_life(
    life: Life, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    home, endpoints = life.fleet.home.home, life.fleet.context.endpoints
    life.secrets.add_pin(PIN)
    wrong = life.fleet.folder / "code-wrong"
    wrong.write_text("WRNG-C0DE-WRNG-C0DE\n")
    life.secrets.add_code("WRNG-C0DE-WRNG-C0DE")
    est = ("--est", f"https://localhost:{endpoints.https_port}/prod", "--device", DEVICE)
    trust = ("--trust", home.server_trust)
    claim = home.public_claim("lab")

    right = await life.code_file("prod")
    await life.call("enroll", *est, *trust, "--code-file", wrong, "--wait", "0", code=3)
    await life.call("enroll", *est, *trust, "--code-file", right)
    await life.call(
        *("--identity", "lab", "enroll", "--mqtt", f"localhost:{endpoints.mqtt_bootstrap_port}"),
        *("--device", DEVICE, *trust, "--code-file", await life.code_file("lab"), "--key", token),
        *("--claim", f"{claim.certificate},{claim.key}"),
    )
    async with life.running():
        await until((life.state / "signer.sock").exists)
        for identity in ((), ("--identity", "lab")):
            await life.call(*identity, "renew", "--json")
        lent = control.ask(life.state / "signer.sock", "sign", {"message": "aGVsbG8="})
        assert lent is not None
        life.said.append(json.dumps(lent.members))
        for command in ("status", "trust"):
            await life.call(command, "--json")
        await life.call("doctor", "--json", code=0)
        life.said.append(await states(life.fleet))
    for folder in (life.state, life.state / "identities" / "lab"):
        events = list(read_events(folder))
        assert [event["event"] for event in events][-1] == "renewed"
        life.said += [json.dumps(events), (folder / "tally").read_text()]
    await life.call("reset", "--yes")

    life.said.append(caplog.text)
    assert len({name for name, _ in life.secrets.forms if name.startswith("key")}) >= 4
    assert len(life.secrets.forms) > 40
    assert len("".join(life.said)) > 20_000
    assert {name for text in life.said for name in life.secrets.found_in(text)} == set()


def test_what_looks_for_secrets_finds_them_in_each_form() -> None:
    secrets, code = Secrets(), "ABCD-EFGH-JKMN-PQRS"
    secrets.add_code(code)
    secrets.add_pin(PIN)
    for text in (
        f"the code {code} is wrong",
        code.replace("-", ""),
        code.encode().hex(),
        *(base64.b64encode(f"{'d' * n}:{code}\n".encode()).decode() for n in range(1, 5)),
        f"pin={PIN}",
    ):
        assert secrets.found_in(text), text
    assert secrets.found_in(f"serial a{PIN}f, code ABCD") == []
