"""What comes on the topics of AWS, whatever it is, gets one answer, on its own connection's topic."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.wire import cbor
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.channels.aws import FAULTS, answerer, beside
from fleet.channels.aws_payload import Asked, Format, encode, read_create, read_register
from fleet.channels.mqtt import Answer
from fleet.core.isolation import SharedLink
from fleet.store import audit
from fleet.store.audit import AuditQuery
from tests.desk import at_desk
from tests.homes import FleetHome

LINK = SharedLink(issuer="ab" * 20, serial="4" * 32, client_id="sdk-1", name="0011223344556677-1")
CREATE = "$aws/certificates/create-from-csr/json"


def test_every_problem_has_a_word_of_aws() -> None:
    assert FAULTS.keys() == set(ProblemCode)
    assert all(400 <= fault.status < 600 for fault in FAULTS.values())


@pytest.mark.parametrize("form", list(Format))
def test_both_formats_say_the_same(form: Format) -> None:
    members = {"certificateOwnershipToken": "t", "parameters": {"SerialNumber": "1"}, "other": 3}
    body = json.dumps(members).encode() if form is Format.JSON else cbor.encode(members)

    found = read_register(Asked(format=form, body=body))

    assert (found.token.reveal(), dict(found.parameters)) == ("t", {"SerialNumber": "1"})


def test_an_answer_in_cbor_is_the_one_in_json() -> None:
    payload = {"statusCode": 403, "thingName": "prod:d1", "deviceConfiguration": {"a": "b"}}

    assert cbor.decode(encode(payload, Format.CBOR)) == json.loads(encode(payload, Format.JSON))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"certificateSigningRequest": 3}',
        b'{"certificateSigningRequest": "a", "certificateSigningRequest": "b"}',
        b'{"certificateSigningRequest": "' + b"x" * 70_000 + b'"}',
        b"\xff\xfe",
    ],
)
def test_what_holds_no_request_is_malformed(body: bytes) -> None:
    for form in Format:
        with pytest.raises(MalformedMessageError):
            read_create(Asked(format=form, body=body))


@pytest.mark.parametrize(
    "members",
    [
        {"parameters": {}},
        {"certificateOwnershipToken": ""},
        {"certificateOwnershipToken": "x" * 1025},
        {"certificateOwnershipToken": "t", "parameters": []},
        {"certificateOwnershipToken": "t", "parameters": {"a": 3}},
        {"certificateOwnershipToken": "t", "parameters": {"a": {"b": "c"}}},
        {"certificateOwnershipToken": "t", "parameters": {"a": "x" * 1025}},
        {"certificateOwnershipToken": "t", "parameters": {f"p{number}": "" for number in range(65)}},
    ],
)
def test_what_registers_nothing_is_malformed(members: dict[str, object]) -> None:
    with pytest.raises(MalformedMessageError):
        read_register(Asked(format=Format.JSON, body=json.dumps(members).encode()))


@given(st.binary(max_size=200), st.sampled_from(list(Format)))
def test_any_bytes_are_read_or_malformed(body: bytes, form: Format) -> None:
    for read in (read_create, read_register):
        try:
            read(Asked(format=form, body=body))
        except MalformedMessageError:
            continue


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [
            CREATE,
            "$aws/certificates/create-from-csr/cbor",
            "$aws/certificates/create-from-csr/xml",
            "$aws/certificates/create/json",
            "$aws/provisioning-templates/line3/provision/json",
            "$aws/provisioning-templates//provision/cbor",
            "$aws/provisioning-templates/a b/provision/",
        ]
    ),
    st.binary(max_size=80) | st.sampled_from([b"{}", b"\xa0", b'{"certificateSigningRequest": ""}']),
)
async def test_whatever_is_asked_is_rejected_in_its_own_format(
    fleet_home: FleetHome, tmp_path_factory: pytest.TempPathFactory, topic: str, body: bytes
) -> None:
    folder: Path = tmp_path_factory.mktemp("aws")
    async with at_desk(fleet_home, folder) as desk:
        answer = await answerer(desk.context)(LINK.request(topic), body)

    assert answer is not None
    assert answer.topic == LINK.answer(f"{topic}/rejected")
    found = cbor.decode(answer.body) if topic.endswith("/cbor") else json.loads(answer.body)
    assert isinstance(found, dict)
    assert found.keys() == {"statusCode", "errorCode", "errorMessage"}


async def test_a_refusal_stands_on_the_audit_trail_and_holds_no_token(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    topic = "$aws/provisioning-templates/line3/provision/json"
    body = b'{"certificateOwnershipToken": "a-token-that-is-secret", "parameters": {}}'
    async with at_desk(fleet_home, tmp_path) as desk:
        await answerer(desk.context)(LINK.request(topic), body)
        found = await desk.context.store.read(audit.search, AuditQuery(action="request.refused"))

    (entry,) = (one.entry for one in found)
    assert dict(entry.details)["code"] == "code-invalid"
    assert dict(entry.details)["client"] == "sdk-1"
    assert entry.serial == LINK.serial
    assert "a-token-that-is-secret" not in repr(entry)


async def test_what_comes_on_no_connections_topic_is_answered_by_nobody(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    async with at_desk(fleet_home, tmp_path) as desk:
        answer = answerer(desk.context)

        assert await answer(CREATE, b"{}") is None
        assert await answer(LINK.answer(CREATE), b"{}") is None
        assert await answer(LINK.request("$aws/things/d1/shadow/get"), b"{}") is None


async def test_each_request_goes_to_the_channel_that_it_came_by() -> None:
    async def named(name: str) -> Answer:
        return Answer(topic=name, body=b"")

    answer = beside(lambda *_: named("own"), lambda *_: named("aws"))

    assert (await answer(LINK.request(CREATE), b"")) == await named("aws")
    assert (await answer("fleet/v1/enroll/x/request", b"")) == await named("own")
