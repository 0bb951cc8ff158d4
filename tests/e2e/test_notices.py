"""People told by a whole service: over every channel at once, and by one that is killed while it tells."""

import asyncio
import json
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from fleet.home import Home
from tests.desk import Unit
from tests.hook import SECRET, Receiver, receiving
from tests.killable import KillableServer
from tests.live import LiveFleet, live, make_live_home
from tests.mqtt import MqttClient, client_context
from tests.pki import key_pem
from tests.post_office import PASSWORD, USER, PostOffice, post_office
from tests.unit.fleet.carriers.test_webhook import saying


def tell(home: Home, office: PostOffice, receiver: Receiver) -> None:
    """Name a mail server, a webhook, the broker and a file in the configuration of a home."""
    for name, secret in {"smtp.password": PASSWORD, "hook.secret": SECRET}.items():
        (home.root / name).touch(mode=0o600)
        (home.root / name).write_text(secret)
    home.config.write_text(
        f"""{home.config.read_text()}
[notice.channels.mail]
kind = "mail"
host = "localhost"
port = {office.port}
sender = "fleet@example.org"
user = "{USER}"
password_file = "smtp.password"
trust = "{office.ca}"
private_hosts = ["localhost"]
[notice.channels.hook]
kind = "webhook"
url = "{receiver.url}"
secret_file = "hook.secret"
trust = "{receiver.ca}"
private_hosts = ["localhost"]
[notice.channels.bus]
kind = "mqtt"
[notice.channels.log]
kind = "file"
path = "notices.jsonl"
[[notice.rule]]
name = "all"
events = ["doctor.finding"]
to = ["mail:ops@example.org", "hook", "bus", "log"]
gather_minutes = 0
"""
    )


async def asked(fleet: LiveFleet, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    async with fleet.admin() as session:
        way = session.get(f"/api/v1/{path}") if body is None else session.post(f"/api/v1/{path}", json=body)
        async with way as response:
            found: dict[str, object] = await response.json()
            return found


async def allowed(fleet: LiveFleet) -> ssl.SSLContext:
    """Let a backend hear what people are told, and return its TLS."""
    unit = Unit(device_id="chat")
    order = {"name": "chat", "reads": ["fleet/v1/notifications/+"], "csr": unit.csr}
    made = await asked(fleet, "services", order)
    certificate, key = fleet.folder / "chat.crt", fleet.folder / "chat.key"
    certificate.write_text(str(made["certificate"]))
    key.write_bytes(key_pem(unit.key))
    return client_context(trust=fleet.home.home.server_trust, certificate=certificate, key=key)


def log(home: Home) -> list[dict[str, object]]:
    path = home.root / "notices.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.needs("mosquitto", "gcc")
async def test_every_channel_has_what_a_service_at_the_broker_hears(tmp_path: Path) -> None:
    made = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="mosquitto")
    home = made.home
    for name in ("mail", "hook"):
        (tmp_path / name).mkdir()
    async with post_office(tmp_path / "mail", login=True) as office, receiving(tmp_path / "hook") as receiver:
        receiver.answer = saying(204)
        tell(home, office, receiver)
        async with live(made, tmp_path) as fleet:
            backend = await MqttClient.open(await allowed(fleet), port=fleet.context.endpoints.mqtt_port)
            assert await backend.connect("chat") == 0
            assert await backend.subscribe("fleet/v1/notifications/+") == [1]

            trials = await asked(fleet, "notifications/test", {"to": "all"})
            heard = await backend.receive()
            while not heard.topic.endswith("/test"):
                heard = await backend.receive()
            await backend.close()

            assert all(one["arrived"] for one in trials["items"]), trials
            assert heard.topic == "fleet/v1/notifications/test"
            assert not heard.retained
            assert json.loads(heard.body)["type"] == "fleet.v1.test"
            assert office.messages[-1]["Subject"] == "[acme] test: a notification"
            assert log(home)[-1]["type"] == "fleet.v1.test"

            device = await fleet.enrolled("d1")
            async with device.connected() as client:
                assert await client.subscribe("fleet/v1/notifications/+") == [0x80]


async def test_a_server_that_is_killed_between_sending_and_recording_tells_under_the_same_id(
    tmp_path: Path,
) -> None:
    made = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="embedded")
    for name in ("mail", "hook"):
        (tmp_path / name).mkdir()
    servers: list[KillableServer] = []

    async def kill(_receiver: Receiver, _request: web.Request, _body: bytes) -> web.StreamResponse:
        await servers[0].kill()
        return web.Response()

    async with post_office(tmp_path / "mail", login=True) as office, receiving(tmp_path / "hook") as receiver:
        receiver.answer = kill
        tell(made.home, office, receiver)
        servers.append(await KillableServer.start(made.home))
        try:
            await asyncio.wait_for(servers[0].process.wait(), 60)
            assert len(receiver.asked) == 1

            receiver.answer = saying(204)
            servers.append(await KillableServer.start(made.home))
            sent = await asyncio.wait_for(all_sent(made.home), 60)
        finally:
            for server in servers:
                await server.kill()

    ids = {str(one["id"]) for one in sent}
    assert len(receiver.asked) > len(sent), "what was not recorded is sent once more"
    assert {str(one["id"]) for one in receiver.asked} == ids, "and by its id the receiver knows it"
    assert {message["Fleet-Notification"] for message in office.messages} == ids
    lines = [str(one["id"]) for one in log(made.home)]
    assert sorted(lines) == sorted(ids), "a file has each line once"


async def all_sent(home: Home) -> list[dict[str, object]]:
    """Wait until every delivery of every notification was taken; return the notifications."""
    connector = aiohttp.UnixConnector(path=str(home.admin_socket))
    async with aiohttp.ClientSession("http://fleet", connector=connector) as session:
        while True:
            async with session.get("/api/v1/notifications") as response:
                found: list[dict[str, object]] = (await response.json())["items"]
            states = [one["state"] for each in found for one in each["deliveries"]]
            if states and set(states) == {"sent"}:
                return found
            await asyncio.sleep(0.2)  # the server has no way to say so
