"""Whatever bytes come in by whatever door, a reply goes out, and nothing is issued that should not be."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.wire.messages import encode, parse_reply
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import Problem
from device_agent.wire.requests import Confirm
from fleet.channels.translate import answerer
from fleet.errors import BadInputError, StorageFullError
from fleet.ra.context import Asker, Listener
from fleet.ra.requests.answer import answer, answer_body
from fleet.ra.shown import shown_certificate
from tests.desk import Desk, Unit

ASKERS = [
    Asker(listener=Listener.BOOTSTRAP, client_id="0" * 64),
    Asker(listener=Listener.HTTPS),
    Asker(listener=Listener.RECOVERY),
    Asker(listener=Listener.ADMIN, station="local"),
]
WORDS = st.sampled_from(
    [
        "v",
        "id",
        "type",
        "csr",
        "device_id",
        "proof",
        "kind",
        "code",
        "anchors",
        "attempt",
        "nonce",
        "enroll",
        "renew",
        "confirm",
        "done",
        "status",
        "time",
        "claim",
        "station",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=8),
    max_leaves=20,
)
BODIES = st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, asker=st.sampled_from(ASKERS))
async def test_any_body_gets_a_problem(desk: Desk, body: bytes, asker: Asker) -> None:
    reply = await answer_body(desk.context, asker, body)

    assert isinstance(reply, Problem)
    assert parse_reply(encode(reply)) == reply


async def test_a_body_too_large_is_told_so(desk: Desk) -> None:
    reply = await answer_body(desk.context, ASKERS[0], b" " * 65_537)

    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.TOO_LARGE


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"v":2,"id":"a","type":"confirm"}', ProblemCode.UNSUPPORTED_VERSION),
        (b'{"v":1,"id":"a","type":"dance"}', ProblemCode.UNSUPPORTED_TYPE),
        (b'{"v":1,"id":"a","type":"renew"}', ProblemCode.MALFORMED),
    ],
)
async def test_the_problem_names_the_request_and_the_fault(
    desk: Desk, body: bytes, code: ProblemCode
) -> None:
    reply = await answer_body(desk.context, ASKERS[0], body)

    assert isinstance(reply, Problem)
    assert (reply.id, reply.code) == ("a", code)


async def test_a_full_disk_is_a_problem_to_come_back_with(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    unit = Unit(device_id="d1")

    async def full(*_arguments: object) -> None:
        raise StorageFullError("the disk is full", hint="make room")

    with monkeypatch.context() as patch:
        patch.setattr(desk.context.store, "write", full)
        reply = await answer(desk.context, unit.at_bootstrap(), unit.enroll(proof))

    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.UNAVAILABLE
    assert "disk" not in reply.detail


async def test_a_defect_in_one_request_is_not_the_end_of_the_service(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fleet.ra.requests.enroll.read_csr", broken)
    unit = Unit(device_id="d1")

    reply = await answer(
        desk.context, unit.at_bootstrap(), unit.enroll(await desk.code_for(await desk.register("d1")))
    )

    assert isinstance(reply, Problem)
    assert reply.code is ProblemCode.UNAVAILABLE
    assert "ZeroDivisionError" in caplog.text


TOPICS = [
    "fleet/v1/enroll/xyz/request",
    "fleet/v1/enroll/" + "A" * 64 + "/request",
    "fleet/v1/prod/a b/" + "0" * 32 + "/request",
    "fleet/v1/prod/d1/0/request",
    "fleet/v1/prod/d1/" + "0" * 32 + "/response",
    "",
    "/",
]


@pytest.mark.parametrize("topic", TOPICS)
async def test_a_topic_that_nobody_may_use_is_not_answered(desk: Desk, topic: str) -> None:
    assert await answerer(desk.context)(topic, encode(Confirm(id="c"))) is None


async def test_an_answer_goes_to_the_topic_derived_from_the_asker(desk: Desk) -> None:
    answered = await answerer(desk.context)("fleet/v1/enroll/" + "0" * 64 + "/request", b"{}")

    assert answered is not None
    assert answered.topic == "fleet/v1/enroll/" + "0" * 64 + "/response"


@given(st.binary(max_size=200))
def test_no_made_up_certificate_is_shown(der: bytes) -> None:
    with pytest.raises(BadInputError):
        shown_certificate(der)


@pytest.mark.parametrize("csr", ["changed", "trailing", "two-blocks", "unfinished", "empty"])
async def test_a_bad_csr_is_told_apart_and_binds_no_code(desk: Desk, csr: str) -> None:
    proof = await desk.code_for(await desk.register("d1"))
    unit = Unit(device_id="d1")
    bad = {
        "changed": unit.csr.replace(unit.csr[200:204], "AAAA"),
        "trailing": unit.csr + "x",
        "two-blocks": unit.csr + unit.csr,
        "unfinished": "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 40_000,
        "empty": "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
    }[csr]
    request = unit.enroll(proof)
    refused = await answer(
        desk.context, unit.at_bootstrap(), type(request)(id="b", device_id="d1", csr=bad, proof=proof)
    )

    good = await answer(desk.context, unit.at_bootstrap(), request)

    assert isinstance(refused, Problem)
    assert not isinstance(good, Problem)
