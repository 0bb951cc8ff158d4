"""The webhook, through a real HTTPS receiver: it may say no or more, and whatever goes wrong refuses."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode, Retry
from device_agent.wire.replies import Issued, Problem, Reply
from device_agent.wire.secret import Secret
from fleet.errors import BadInputError, RefusedError
from fleet.model import Assurance
from fleet.ports import HookReply
from fleet.proof_sections import MaySet, WebhookConfig
from fleet.ra.devices import show
from fleet.ra.requests.answer import answer
from fleet.ra.webhook import HookQuestion, HookRules, Webhook
from fleet.ra.webhook import signed as signature_of
from fleet.store.audit import AuditQuery, search_newest
from fleet.store.codes import GrantKind
from fleet.web.webhook import HttpsHookCaller, read_secret
from tests.desk import Desk, Unit, at_desk
from tests.homes import FleetHome, utc_now
from tests.hook import SECRET, Receiver, receiving, signature, signed

D1 = Identity(domain="prod", device_id="d1")
TOML = """
[fleet]
name = "acme"
[domains.prod]
[domains.prod.profiles.gateway]
[domains.prod.profiles.vault]
assurance = "hardware"
[domains.lab]
"""
EVERYTHING = frozenset(MaySet)


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    async with receiving(tmp_path) as running:
        yield running


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path, toml=TOML) as opened:
        opened.clock.now = utc_now()
        yield replace(opened, context=replace(opened.context, webhook=hook(opened, receiver)))


def settings(receiver: Receiver, *, seconds: float = 5, private: bool = True) -> WebhookConfig:
    return WebhookConfig(
        url=receiver.url,
        secret_file=Path("secret"),
        timeout=timedelta(seconds=seconds),
        trust=receiver.ca,
        private_hosts=("localhost",) if private else (),
    )


ALL_RULES = HookRules(may_set=EVERYTHING, profiles=frozenset({"gateway", "vault"}))


def hook(
    desk: Desk,
    receiver: Receiver,
    *,
    seconds: float = 5,
    private: bool = True,
    rules: HookRules = ALL_RULES,
) -> Webhook:
    return Webhook(
        HttpsHookCaller(settings(receiver, seconds=seconds, private=private), root=Path("/")),
        rules,
        fleet="acme",
        secret=Secret(SECRET),
        clock=desk.clock,
        randomness=desk.context.randomness,
    )


async def enroll(desk: Desk, device_id: str = "d1") -> Reply:
    unit, proof = Unit(device_id=device_id), await desk.code_for(await desk.register(device_id))
    return await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))


def why(reply: Reply, caplog: pytest.LogCaptureFixture) -> str:
    """Return what the log says of an answer that did not count; the device is told no more than that."""
    problem = refused(reply)
    assert (problem.code, problem.detail) == (
        ProblemCode.UNAVAILABLE,
        "the webhook gave no answer that counts",
    )
    return caplog.messages[-1]


def refused(reply: Reply) -> Problem:
    assert isinstance(reply, Problem), reply
    return reply


async def test_it_is_asked_with_what_is_known_signed_and_only_once_a_device(
    desk: Desk, receiver: Receiver
) -> None:
    unit, proof = Unit(device_id="d1"), await desk.code_for(await desk.register("d1"))
    replies = [await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof)) for _ in range(2)]
    assert all(isinstance(reply, Issued) for reply in replies)
    (question,) = receiver.asked
    assert {name: question[name] for name in ("v", "type", "fleet", "domain", "device_id")} == {
        "v": 1,
        "type": "enroll",
        "fleet": "acme",
        "domain": "prod",
        "device_id": "d1",
    }
    assert (question["key_hash"], question["assurance"]) == (unit.key_hash, "code")
    at = int(receiver.signatures[0].partition(",")[0].removeprefix("t="))
    body = json.dumps(question).encode()
    assert receiver.signatures[0] == signature(body, at=at)


async def test_what_it_tells_of_a_device_is_kept_and_on_record(desk: Desk, receiver: Receiver) -> None:
    receiver.says = {
        "decision": "allow",
        "attributes": {"site": "Graz", "line": "3"},
        "tags": ["eu", "gateway"],
        "name": "Door 7",
        "profile": "gateway",
    }
    assert isinstance(await enroll(desk), Issued)
    view = await show(desk.context, D1)
    assert dict(view.marks.attributes) == {
        "site": "Graz",
        "line": "3",
        "tags": "eu gateway",
        "name": "Door 7",
    }
    assert view.record.profile == "gateway"
    entries = await desk.context.store.read(
        search_newest, AuditQuery(domain="prod", device_id="d1", action="device.enriched")
    )
    assert ("profile", "gateway") in entries[0].entry.details


async def test_its_no_is_final_said_with_its_reason_and_binds_nothing(desk: Desk, receiver: Receiver) -> None:
    receiver.says = {"decision": "refuse", "reason": "not ordered"}
    problem = refused(await enroll(desk))
    assert (problem.code, problem.detail, problem.retry) == (
        ProblemCode.NOT_ALLOWED,
        "the webhook refuses: not ordered",
        Retry.NEVER,
    )
    view = await show(desk.context, D1)
    assert (view.certificates, view.proofs, [code.key_hash for code in view.codes]) == ((), (), [None])


async def test_a_profile_that_it_chooses_still_has_its_say(desk: Desk, receiver: Receiver) -> None:
    receiver.says = {"decision": "allow", "profile": "vault"}
    assert "needs the assurance hardware" in refused(await enroll(desk)).detail


async def hang(receiver: Receiver, _request: web.Request, _body: bytes) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def fail(_receiver: Receiver, _request: web.Request, _body: bytes) -> web.StreamResponse:
    return web.Response(status=500)


async def redirect(receiver: Receiver, _request: web.Request, _body: bytes) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": f"{receiver.url}/elsewhere"})


async def unsigned(receiver: Receiver, _request: web.Request, body: bytes) -> web.StreamResponse:
    return web.Response(body=receiver.answering(body))


async def replay(receiver: Receiver, _request: web.Request, body: bytes) -> web.StreamResponse:
    said = receiver.answering(body, id="77" * 16)
    mark = signature(said, at=int(time.time()), answers="77" * 16)
    return web.Response(body=said, headers={"Fleet-Signature": mark})


async def stale(receiver: Receiver, _request: web.Request, body: bytes) -> web.StreamResponse:
    said = receiver.answering(body)
    mark = signature(said, at=int(time.time()) - 400, answers=json.loads(body)["id"])
    return web.Response(body=said, headers={"Fleet-Signature": mark})


async def echo(_receiver: Receiver, request: web.Request, body: bytes) -> web.StreamResponse:
    return web.Response(body=body, headers={"Fleet-Signature": request.headers["Fleet-Signature"]})


async def huge(_receiver: Receiver, request: web.Request, _body: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(bytes(4096))
    return response


@pytest.mark.parametrize("bad", [fail, redirect, unsigned, replay, stale, echo, huge])
async def test_an_answer_that_is_none_refuses_and_may_be_asked_for_again(
    desk: Desk, receiver: Receiver, bad: object
) -> None:
    receiver.answer = bad  # type: ignore[assignment]  # one of the answers above
    problem = refused(await enroll(desk))
    assert (problem.code, problem.retry) == (ProblemCode.UNAVAILABLE, Retry.LATER)
    assert len(receiver.asked) == 1, "a redirect is not followed"
    receiver.answer = signed
    unit, proof = Unit(device_id="d1"), await desk.code_for(D1)
    assert isinstance(await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof)), Issued)


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ({"decision": "maybe"}, "neither allow nor refuse"),
        ({}, "decision must be printable text"),
        ({"decision": "allow", "colour": "red"}, "a member that is not known"),
        ({"decision": "allow", "profile": "device"}, "may not choose the profile device"),
        ({"decision": "allow", "attributes": {"Bad Name": "x"}}, "attributes must be"),
        ({"decision": "allow", "attributes": {"a": "x" * 300}}, "printable text of 1 to 256"),
        ({"decision": "allow", "tags": ["Not Good"]}, "tags must be words"),
    ],
)
async def test_a_yes_that_says_more_than_it_may_refuses(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture, says: dict[str, object], said: str
) -> None:
    receiver.says = says
    assert said in why(await enroll(desk), caplog)


async def test_what_policy_does_not_let_it_set_refuses(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    strict = replace(desk, context=replace(desk.context, webhook=hook(desk, receiver, rules=HookRules())))
    receiver.says = {"decision": "allow", "tags": ["eu"]}
    assert "may not set tags" in why(await enroll(strict), caplog)


async def test_another_secret_is_no_signature(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.secret = "00" * 32
    assert "its signature is wrong" in why(await enroll(desk), caplog)


async def test_an_address_inside_is_asked_only_where_its_name_is_listed(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    outside = replace(desk, context=replace(desk.context, webhook=hook(desk, receiver, private=False)))
    assert "not public" in why(await enroll(outside), caplog)
    receiver.url = receiver.url.replace("localhost", "127.0.0.1")
    literal = replace(desk, context=replace(desk.context, webhook=hook(desk, receiver, private=False)))
    assert "not a public address" in why(await enroll(literal, "d2"), caplog)
    assert receiver.asked == []


async def test_a_server_that_nobody_trusts_is_not_asked(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    async with receiving(other) as stranger:
        receiver.ca = stranger.ca
        distrusting = replace(desk, context=replace(desk.context, webhook=hook(desk, receiver)))
        assert "it cannot be asked" in why(await enroll(distrusting), caplog)
    assert receiver.asked == []


async def test_one_that_hangs_is_left_alone_after_three_tries_and_nobody_else_waits(
    desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = hang
    slow = replace(desk, context=replace(desk.context, webhook=hook(desk, receiver, seconds=0.05)))
    for number in range(3):
        assert "did not answer within" in why(await enroll(slow, f"d{number}"), caplog)
    assert "left alone" in refused(await enroll(slow, "d4")).detail
    assert len(receiver.asked) == 3

    receiver.answer = signed
    desk.clock.forward(timedelta(seconds=31))
    assert isinstance(await enroll(slow, "d5"), Issued)


async def test_others_are_answered_while_it_hangs(desk: Desk, receiver: Receiver) -> None:
    unit, proof = Unit(device_id="known"), await desk.code_for(await desk.register("known"))
    await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))
    receiver.answer, receiver.began = hang, asyncio.Event()
    waits = asyncio.ensure_future(enroll(desk, "new"))
    async with asyncio.timeout(20):
        await receiver.began.wait()

    repeated = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))

    assert isinstance(repeated, Issued)
    assert not waits.done()
    waits.cancel()


async def test_only_so_many_wait_for_it_at_once(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = hang
    everybody = [asyncio.ensure_future(enroll(desk, f"d{number}")) for number in range(20)]
    done, waiting = await asyncio.wait(everybody, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 4:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {refused(each.result()).code for each in done} == {ProblemCode.BUSY}
    assert len(waiting) == 16
    for each in waiting:
        each.cancel()


def test_a_secret_that_others_can_read_or_that_is_short_is_none(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    config = WebhookConfig(url="https://x/", secret_file=Path("secret"))
    with pytest.raises(BadInputError, match="cannot be read"):
        read_secret(config, root=tmp_path)
    file.write_text(SECRET)
    file.chmod(0o644)
    with pytest.raises(BadInputError, match="others than its owner"):
        read_secret(config, root=tmp_path)
    file.chmod(0o600)
    assert read_secret(config, root=tmp_path).reveal() == SECRET
    file.write_text("short")
    with pytest.raises(BadInputError, match="32 characters"):
        read_secret(config, root=tmp_path)


class Says:
    """A caller whose answer is given."""

    def __init__(self, body: bytes, mark: str) -> None:
        self.reply = HookReply(status=200, signature=mark, body=body)

    async def post(self, _body: bytes, _headers: object) -> HookReply:
        return self.reply


@given(body=st.binary(max_size=300), mark=st.text(max_size=100))
def test_no_answer_breaks_the_one_who_asked(body: bytes, mark: str) -> None:
    now = utc_now()
    question = HookQuestion(
        identity=D1,
        key_hash="ab" * 32,
        kind=GrantKind.CODE,
        assurance=Assurance.CODE,
        evidence="",
        batch="",
        profile="device",
        address="",
    )
    for signed_as in (
        mark,
        signature_of(Secret(SECRET), at=int(now.timestamp()), body=body, answers="00" * 16),
    ):
        asked = Webhook(
            Says(body, signed_as),
            HookRules(),
            fleet="acme",
            secret=Secret(SECRET),
            clock=lambda: now,
            randomness=bytes,
        )
        with pytest.raises(RefusedError):
            asyncio.run(asked.ask(question))
