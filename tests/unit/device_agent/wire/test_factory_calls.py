"""Calls of the factory link: golden bytes, every message there and back, nothing else accepted."""

import hashlib
import json
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire import cbor, smp
from device_agent.wire import factory_replies as replies
from device_agent.wire import factory_requests as requests
from device_agent.wire.factory import Command, LinkState, Rc, proof_text, station_text
from device_agent.wire.factory_calls import (
    Answer,
    Call,
    CallId,
    encode_answer,
    encode_call,
    encode_foreign_refusal,
    parse_answer,
    parse_call,
)
from device_agent.wire.framing import Framing, encode
from device_agent.wire.objects import ObjectHashes, ObjectId
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.smp import DEFAULT_GROUP, Header, Op, Version

VECTORS = Path(__file__).parents[3] / "vectors" / "factory_link.json"

SESSION = bytes(range(8))
NONCE = bytes(range(16))
DIGEST = bytes(range(32))
HASHES = ObjectHashes(chain=b"\x01" * 32, anchors=b"\x02" * 32, configuration=b"\x03" * 32)
CALL_ID = CallId(session=SESSION, sequence=7)

REQUESTS: dict[str, requests.Request] = {
    "hello": requests.Hello(nonce=NONCE),
    "attest": requests.Attest(nonce=NONCE),
    "ident": requests.Ident(device_id="line3-0001"),
    "read": requests.Read(object_id=1, offset=64, length=128),
    "write": requests.Write(object_id=ObjectId.CHAIN, offset=192, octets=b"\xde\xad\x00\xbe\xef"),
    "install": requests.Install(hashes=HASHES, signature=b"\x30\x01", station_chain=(b"leaf", b"issuing")),
    "install-short": requests.Install(hashes=HASHES, signature=b"\x30\x01"),
    "prove": requests.Prove(nonce=NONCE),
    "commit": requests.Commit(fingerprint=DIGEST),
    "abort": requests.Abort(),
    "status": requests.Status(),
    "ask": requests.Ask(nonce=DIGEST, time=1_900_000_000),
    "hear": requests.Hear(answer=b"\xa0", signature=b"\x30\x01", station_chain=(b"leaf", b"issuing")),
}
REPLIES: dict[str, replies.Reply] = {
    "hello": replies.HelloReply(
        nonce=NONCE,
        hardware_id="hw-1",
        device_id="line3-0001",
        model="bench",
        state=LinkState.ACTIVE,
        fingerprint=DIGEST,
        largest=2048,
    ),
    "hello-fresh": replies.HelloReply(nonce=NONCE, hardware_id="hw-1", state=LinkState.FRESH),
    "attest": replies.AttestReply(evidence=b"certificate", signature=b"\x30\x01"),
    "ident": replies.IdentReply(length=209, digest=DIGEST),
    "read": replies.ReadReply(octets=b"\x30\x81\xce"),
    "write": replies.WriteReply(offset=197),
    "install": replies.InstallReply(fingerprint=DIGEST),
    "install-tofu": replies.InstallReply(fingerprint=DIGEST, tofu=True),
    "prove": replies.ProveReply(signature=b"\x30\x01"),
    "commit": replies.CommitReply(state=LinkState.ACTIVE, fingerprint=DIGEST),
    "abort": replies.AbortReply(),
    "status": replies.StatusReply(state=LinkState.PENDING),
    "ask": replies.AskReply(
        kind=replies.Asked.RENEW,
        length=700,
        digest=DIGEST,
        certificate_length=640,
        fingerprint=DIGEST,
        signature=b"\x30\x01",
    ),
    "ask-nothing": replies.AskReply(kind=replies.Asked.NOTHING),
    "hear": replies.HearReply(state=LinkState.ACTIVE),
}


def call_of(request: requests.Request) -> bytes:
    return encode_call(Call(id=CALL_ID, request=request), group=DEFAULT_GROUP)


def answer_of(
    reply: replies.Reply | replies.Refusal, command: Command, *, call_id: CallId | None = CALL_ID
) -> bytes:
    op = requests.OPS[command]
    header = Header(op=op, group=DEFAULT_GROUP, sequence=7, command=command)
    return encode_answer(header, call_id, reply)


def vectors() -> dict[str, dict[str, str]]:
    """Return the vectors as the code makes them; the file holds them as they must stay."""
    found = {f"request {name}": call_of(request) for name, request in REQUESTS.items()}
    found |= {f"reply {name}": answer_of(reply, reply.command) for name, reply in REPLIES.items()}
    found["refusal"] = answer_of(replies.Refusal(rc=Rc.KEY_MISMATCH), Command.INSTALL)
    return {
        name: {
            "message": message.hex(),
            "lines": encode(message, Framing.LINES).hex(),
            "cobs": encode(message, Framing.COBS).hex(),
        }
        for name, message in found.items()
    }


def test_every_message_has_the_bytes_that_devices_in_the_field_know() -> None:
    assert vectors() == json.loads(VECTORS.read_text())


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_comes_back(name: str) -> None:
    call = parse_call(smp.parse(call_of(REQUESTS[name])))
    assert call == Call(id=CALL_ID, request=REQUESTS[name])


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_comes_back(name: str) -> None:
    reply = REPLIES[name]
    answer = parse_answer(answer_of(reply, reply.command), group=DEFAULT_GROUP)
    assert answer == Answer(id=CALL_ID, sequence_octet=7, reply=reply)


def test_every_command_has_a_request_and_a_reply_with_a_vector() -> None:
    assert {request.command for request in REQUESTS.values()} == set(Command) == set(requests.REQUESTS)
    assert {reply.command for reply in REPLIES.values()} == set(Command) == set(replies.REPLIES)


def test_hello_status_and_read_are_reads_all_others_writes() -> None:
    reads = {command for command, op in requests.OPS.items() if op is Op.READ}
    assert reads == {Command.HELLO, Command.STATUS, Command.READ}
    assert set(requests.OPS) == set(Command)


@pytest.mark.parametrize("name", REQUESTS)
def test_keys_are_text_and_every_body_has_session_and_sequence(name: str) -> None:
    body = cbor2.loads(call_of(REQUESTS[name])[8:])
    assert body["s"] == SESSION
    assert body["q"] == 7
    assert all(isinstance(key, str) for key in body)


def test_the_signed_texts_are_these_bytes() -> None:
    proof = proof_text(
        SESSION, station_nonce=NONCE, device_nonce=NONCE[::-1], hashes=HASHES, fingerprint=DIGEST
    )
    objects = b"\x01" * 32 + b"\x02" * 32 + b"\x03" * 32
    assert proof == b"FFL1 proof\x00" + SESSION + NONCE + NONCE[::-1] + objects + DIGEST
    assert (
        station_text(SESSION, device_nonce=NONCE, hashes=HASHES)
        == b"FFL1 station\x00" + SESSION + NONCE + objects
    )


def test_any_change_of_what_is_proved_changes_the_text() -> None:
    base = {"station_nonce": NONCE, "device_nonce": NONCE, "fingerprint": DIGEST}
    texts = {
        proof_text(SESSION, hashes=HASHES, **base),
        proof_text(SESSION[::-1], hashes=HASHES, **base),
        *(proof_text(SESSION, hashes=HASHES, **base | {name: value[::-1]}) for name, value in base.items()),
        *(
            proof_text(SESSION, hashes=ObjectHashes(**{**as_dict(HASHES), field.name: DIGEST}), **base)
            for field in fields(ObjectHashes)
        ),
    }
    assert len({hashlib.sha256(text).digest() for text in texts}) == 8


def as_dict(hashes: ObjectHashes) -> dict[str, bytes]:
    return {"chain": hashes.chain, "anchors": hashes.anchors, "configuration": hashes.configuration}


def message(members: dict[str, cbor.Item], *, command: int, op: Op = Op.WRITE) -> bytes:
    header = Header(op=op, group=DEFAULT_GROUP, sequence=7, command=command)
    return smp.encode(header, {"s": SESSION, "q": 7} | members)


@pytest.mark.parametrize(
    "octets",
    [
        message({}, command=10),
        message({"n": NONCE}, command=Command.HELLO),
        message({"n": NONCE[:15]}, command=Command.HELLO, op=Op.READ),
        message({"n": "text"}, command=Command.PROVE),
        message({"id": "a/b"}, command=Command.IDENT),
        message({"id": "+"}, command=Command.IDENT),
        message({"id": "a" * 60_000}, command=Command.IDENT),
        message({"id": "d\u0435vice"}, command=Command.IDENT),
        message({"o": 5, "off": 0, "d": b""}, command=Command.WRITE),
        message({"o": 1, "off": -1, "d": b""}, command=Command.WRITE),
        message({"o": 1, "off": 2**32, "d": b""}, command=Command.WRITE),
        message({"o": 1, "off": 0, "d": bytes(4097)}, command=Command.WRITE),
        message({"o": 1, "off": 0, "l": 0}, command=Command.READ, op=Op.READ),
        message({"o": 1, "off": 0, "l": 2**40}, command=Command.READ, op=Op.READ),
        message({"h1": DIGEST, "h2": DIGEST, "h3": DIGEST[1:]}, command=Command.INSTALL),
        message({"h1": DIGEST, "h2": DIGEST, "h3": DIGEST, "sc": [1]}, command=Command.INSTALL),
        message({"fp": b""}, command=Command.COMMIT),
        message({"s": b"short"}, command=Command.ABORT),
        message({"q": 2**32}, command=Command.ABORT),
        message({"q": True}, command=Command.ABORT),
    ],
)
def test_a_request_that_is_not_right_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        parse_call(smp.parse(octets))


def reply(members: dict[str, cbor.Item], command: Command = Command.HELLO) -> bytes:
    return message({"rc": 0} | members, command=command, op=Op(requests.OPS[command] | 1))


HELLO: dict[str, cbor.Item] = {"n": NONCE, "hw": "hw-1", "st": 0}


@pytest.mark.parametrize(
    "octets",
    [
        reply(HELLO | {"hw": "a b"}),
        reply(HELLO | {"hw": ""}),
        reply(HELLO | {"hw": "h" * 60_000}),
        reply(HELLO | {"id": "a/b"}),
        reply(HELLO | {"id": "#"}),
        reply(HELLO | {"md": "evil\x1b[2J"}),
        reply(HELLO | {"st": 4}),
        reply(HELLO | {"fp": DIGEST[1:]}),
        reply(HELLO | {"mx": 0}),
        reply(HELLO | {"mx": 2**31}),
        reply(HELLO | {"n": b""}),
        reply({"l": 2**31, "h": DIGEST}, Command.IDENT),
        reply({"off": -1}, Command.WRITE),
        reply({"sg": b"\x30" * 257}, Command.PROVE),
        reply({"fp": DIGEST, "tofu": 2}, Command.INSTALL),
        message(HELLO, command=Command.HELLO, op=Op.READ),
        smp.encode(Header(op=Op.READ_RESPONSE, group=0, sequence=7, command=0), {}),
    ],
)
def test_an_answer_that_is_not_right_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        parse_answer(octets, group=DEFAULT_GROUP)


@given(st.binary(max_size=120))
def test_no_body_makes_a_parser_fail_otherwise_than_it_says(body: bytes) -> None:
    for command in range(11):
        for op in Op:
            header = bytes([8 | op, 0]) + len(body).to_bytes(2, "big") + bytes([0, 71, 1, command])
            with suppress(MalformedMessageError):
                parse_answer(header + body, group=DEFAULT_GROUP)
            with suppress(MalformedMessageError):
                parse_call(smp.parse(header + body))


def test_a_hello_without_what_is_optional_gets_the_defaults_of_small_devices() -> None:
    answer = parse_answer(reply(HELLO), group=DEFAULT_GROUP).reply
    assert isinstance(answer, replies.HelloReply)
    assert (answer.device_id, answer.model, answer.fingerprint, answer.largest) == ("", "", b"", 256)


def test_an_answer_counts_for_its_own_call_only() -> None:
    call = Call(id=CALL_ID, request=requests.Status())
    right = parse_answer(answer_of(REPLIES["status"], Command.STATUS), group=DEFAULT_GROUP)
    late = parse_answer(
        answer_of(REPLIES["status"], Command.STATUS, call_id=CallId(session=SESSION, sequence=6)),
        group=DEFAULT_GROUP,
    )
    other = parse_answer(answer_of(REPLIES["abort"], Command.ABORT), group=DEFAULT_GROUP)
    assert [answer.answers(call) for answer in (right, late, other)] == [True, False, False]


def test_a_refusal_of_smp_version_2_counts_by_its_sequence() -> None:
    header = Header(op=Op.WRITE, group=DEFAULT_GROUP, sequence=7, command=Command.COMMIT)
    error = smp.encode(header.response(), {"err": {"group": DEFAULT_GROUP, "rc": 8}})
    answer = parse_answer(error, group=DEFAULT_GROUP)
    call = Call(id=CALL_ID, request=REQUESTS["commit"])
    assert answer.reply == replies.Refusal(rc=8)
    assert answer.answers(call)
    assert not answer.answers(Call(id=CallId(session=SESSION, sequence=8), request=REQUESTS["commit"]))


@pytest.mark.parametrize("version", Version)
def test_a_command_that_is_not_here_is_refused_as_mcumgr_does(version: Version) -> None:
    header = Header(op=Op.READ, group=5, sequence=1, command=0, version=version)
    assert cbor2.loads(encode_foreign_refusal(header, 8)[8:]) == {"rc": 8}
