"""The whole service and a webhook that its configuration names: asked, heard, and refusing while away."""

import asyncio
from pathlib import Path

from device_agent.wire.problems import ProblemCode, Retry
from device_agent.wire.replies import Issued, Problem
from fleet.ra.devices import show
from tests.homes import FleetHome
from tests.hook import SECRET, receiving
from tests.live import live, make_live_home


async def test_a_service_asks_its_webhook_before_it_signs(tmp_path: Path) -> None:
    home = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="embedded")
    async with receiving(tmp_path / "hook") as receiver:
        name_webhook(home, url=receiver.url, ca=receiver.ca)
        receiver.says = {"decision": "allow", "tags": ["eu"]}
        async with live(home, tmp_path) as fleet:
            device, proof = await fleet.proof_for("asked")
            reply = await device.enroll(proof)
            view = await show(fleet.context, device.identity)
            receiver.says = {"decision": "refuse", "reason": "not ordered"}
            other, code = await fleet.proof_for("stranger")
            refused = await other.enroll(code)
    assert isinstance(reply, Issued), reply
    assert dict(view.marks.attributes) == {"tags": "eu"}
    assert isinstance(refused, Problem)
    assert refused.detail == "the webhook refuses: not ordered"


async def test_while_the_webhook_is_away_devices_are_told_to_come_back(tmp_path: Path) -> None:
    home = await asyncio.to_thread(make_live_home, tmp_path / "home", driver="embedded")
    async with receiving(tmp_path / "hook") as receiver:
        name_webhook(home, url=receiver.url, ca=receiver.ca)
    async with live(home, tmp_path) as fleet:
        device, proof = await fleet.proof_for("early")
        reply = await device.enroll(proof)
    assert isinstance(reply, Problem)
    assert (reply.code, reply.retry) == (ProblemCode.UNAVAILABLE, Retry.LATER)


def name_webhook(home: FleetHome, *, url: str, ca: Path) -> None:
    secret = home.home.root / "webhook.secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    config = home.home.config
    config.write_text(
        f'{config.read_text()}\n[webhook]\nurl = "{url}"\nsecret_file = "webhook.secret"\n'
        f'trust = "{ca}"\nprivate_hosts = ["localhost"]\nmay_set = ["tags"]\n'
    )
