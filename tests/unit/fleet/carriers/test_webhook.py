"""Webhooks, to a real HTTPS receiver: signed CloudEvents, and what a receiver does instead of taking one."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from fleet.carriers.webhook import HookCarrier
from fleet.channel_sections import HookConfig
from fleet.errors import BadInputError, RefusedError, UnreachableError
from tests.hook import SECRET, Receiver, receiving
from tests.letters import AT, ID, letter


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    secret = tmp_path / "hook.secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET + "\n")
    async with receiving(tmp_path) as running:
        running.answer = saying(204)
        yield running


def saying(status: int, **headers: str):  # type: ignore[no-untyped-def]  # as `tests.hook.Answer`
    async def answer(_receiver: Receiver, _request: web.Request, _body: bytes) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return answer


def carrier(receiver: Receiver, folder: Path, **settings: object) -> HookCarrier:
    usual = HookConfig(
        name="hook",
        url=receiver.url,
        secret_file=Path("hook.secret"),
        trust=receiver.ca,
        private_hosts=("localhost",),
        timeout=timedelta(seconds=10),
    )
    config = replace(usual, **settings)  # type: ignore[arg-type]  # a test names fields
    return HookCarrier(config, root=folder, clock=lambda: datetime.now(UTC))


async def test_a_notification_is_a_signed_cloud_event(receiver: Receiver, tmp_path: Path) -> None:
    bodies, kinds = list[bytes](), list[str]()

    async def keep(_receiver: Receiver, request: web.Request, body: bytes) -> web.StreamResponse:
        bodies.append(body)
        kinds.append(request.content_type)
        return web.Response(status=202)

    receiver.answer = keep
    assert await carrier(receiver, tmp_path).carry(letter(), "") == "status 202"

    (body,), (mark,) = bodies, receiver.signatures
    at, mac = mark.removeprefix("t=").split(",v1=")
    wanted = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(mac, wanted)
    assert abs(int(at) - datetime.now(UTC).timestamp()) < 60
    event = json.loads(body)
    assert kinds == ["application/cloudevents+json"]
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", ID, "fleet.v1.expiry.leaf")
    assert (event["source"], event["subject"]) == ("urn:fleet:acme", "prod:d1")
    assert event["time"] == f"{AT:%Y-%m-%dT%H:%M:%SZ}"
    assert event["data"]["items"][0]["change"] == "arises"


@pytest.mark.parametrize("status", [500, 503, 404, 401, 302, 307, 304])
async def test_any_other_status_is_tried_again_and_no_redirect_is_followed(
    receiver: Receiver, tmp_path: Path, status: int
) -> None:
    receiver.answer = saying(status, Location=receiver.url)

    with pytest.raises(UnreachableError, match=str(status)):
        await carrier(receiver, tmp_path).carry(letter(), "")

    assert len(receiver.asked) == 1


async def test_a_receiver_that_says_gone_is_left_alone(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answer = saying(410)
    with pytest.raises(RefusedError, match="410"):
        await carrier(receiver, tmp_path).carry(letter(), "")


async def test_a_receiver_that_hangs_is_tried_again(receiver: Receiver, tmp_path: Path) -> None:
    async def hang(_receiver: Receiver, _request: web.Request, _body: bytes) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    receiver.answer = hang
    with pytest.raises(UnreachableError, match="did not answer"):
        await carrier(receiver, tmp_path, timeout=timedelta(seconds=0.3)).carry(letter(), "")


async def test_of_a_huge_answer_nothing_is_read(receiver: Receiver, tmp_path: Path) -> None:
    async def flood(_receiver: Receiver, request: web.Request, _body: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:  # until the other side has gone
            await response.write(b"x" * 65536)

    receiver.answer = flood
    assert await carrier(receiver, tmp_path).carry(letter(), "") == "status 200"


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"]
)
async def test_a_receiver_inside_of_the_network_is_called_only_if_it_is_named(
    receiver: Receiver, tmp_path: Path, host: str
) -> None:
    url = receiver.url.replace("localhost", host)
    with pytest.raises(UnreachableError, match=r"not.* public"):
        await carrier(receiver, tmp_path, url=url, private_hosts=()).carry(letter(), "")
    assert not receiver.asked


async def test_without_its_secret_nothing_is_sent(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "hook.secret").chmod(0o640)
    with pytest.raises(BadInputError, match="may read"):
        await carrier(receiver, tmp_path).carry(letter(), "")
    (tmp_path / "hook.secret").write_text("short")
    (tmp_path / "hook.secret").chmod(0o600)
    with pytest.raises(BadInputError, match="32 characters"):
        carrier(receiver, tmp_path).check()
    assert not receiver.asked
