"""Messages: golden bodies, round trips, and the refusal of everything else."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire import messages
from device_agent.wire.fields import MAX_BODY_BYTES
from device_agent.wire.problems import RETRY_ADVICE, MalformedMessageError, ProblemCode, Retry
from device_agent.wire.secret import Secret

VECTORS = Path(__file__).parents[3] / "vectors" / "messages.json"
GOLDEN: dict[str, dict[str, object]] = json.loads(VECTORS.read_text())
REQUESTS = [name for name in GOLDEN if name.startswith("request")]
REPLIES = [name for name in GOLDEN if name.startswith("reply")]


def body_of(members: object) -> bytes:
    return json.dumps(members).encode()


def parser_of(name: str):
    return messages.parse_request if name.startswith("request") else messages.parse_reply


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_body_parses_and_encodes_back_to_itself(name: str) -> None:
    message = parser_of(name)(body_of(GOLDEN[name]))
    assert json.loads(messages.encode(message)) == GOLDEN[name]


def test_there_is_a_golden_body_of_every_type() -> None:
    seen = {(name.split(":")[0], GOLDEN[name]["type"]) for name in GOLDEN}
    known = {("request", kind) for kind in messages.REQUEST_TYPES}
    known |= {("reply", kind) for kind in messages.REPLY_TYPES}
    assert seen == known


@pytest.mark.parametrize("name", GOLDEN)
def test_unknown_members_are_ignored(name: str) -> None:
    parse = parser_of(name)
    assert parse(body_of(GOLDEN[name] | {"later": [1, {"x": None}]})) == parse(body_of(GOLDEN[name]))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_another_version_is_refused(name: str, version: object) -> None:
    with pytest.raises(MalformedMessageError):
        parser_of(name)(body_of(GOLDEN[name] | {"v": version}))


def test_an_unknown_type_is_told_apart_from_a_broken_body() -> None:
    with pytest.raises(messages.UnsupportedTypeError):
        messages.parse_request(b'{"v":1,"id":"a","type":"reboot"}')
    with pytest.raises(messages.UnsupportedVersionError):
        messages.parse_request(b'{"v":9,"id":"a","type":"confirm"}')


@pytest.mark.parametrize("name", GOLDEN)
def test_every_member_is_checked_for_its_type(name: str) -> None:
    for member in GOLDEN[name]:
        for wrong in (7.5, [], {}, "", "\x00", "x" * 70_000):
            if GOLDEN[name][member] == wrong:
                continue
            try:
                parser_of(name)(body_of(GOLDEN[name] | {member: wrong}))
            except MalformedMessageError:
                continue
            assert member in {"anchors", "bundles", "link", "retry_after", "trust"}, (
                f"{member} took {wrong!r}"
            )


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"1", b"{", b"\xff", b'{"v":1,"v":1}', b'{"v":NaN}', b"[" * 60_000,
        b'{"v":' + b"9" * 5000 + b"}", b" " * (MAX_BODY_BYTES + 1),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        messages.parse_request(body)


@given(st.binary())
def test_no_bytes_break_the_parsers(body: bytes) -> None:
    for parse in (messages.parse_request, messages.parse_reply):
        with pytest.raises(MalformedMessageError):
            parse(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(sorted(GOLDEN)), st.data())
def test_no_json_value_in_any_member_breaks_the_parsers(name: str, data: st.DataObject) -> None:
    member = data.draw(st.sampled_from(sorted(GOLDEN[name])))
    members = GOLDEN[name] | {member: data.draw(json_values)}
    try:
        message = parser_of(name)(body_of(members))
    except MalformedMessageError:
        return
    assert parser_of(name)(messages.encode(message)) == message


def test_the_id_of_a_broken_body_is_found_for_the_answer() -> None:
    assert messages.id_of(b'{"v":9,"id":"a7"}') == "a7"
    assert messages.id_of(b"garbage") == "-"


def test_every_problem_code_has_its_retry_advice() -> None:
    assert set(RETRY_ADVICE) == set(ProblemCode)
    assert messages.Problem.of("a", ProblemCode.BUSY, "later").retry is Retry.LATER


def test_a_code_is_never_shown() -> None:
    proof = messages.Proof(kind=messages.ProofKind.CODE, code=Secret("7K3M-XXXX"))
    assert "7K3M" not in repr(proof)
    assert "7K3M" not in str(messages.Enroll(id="a", device_id="d1", csr="", proof=proof))


def test_a_time_without_a_zone_never_reaches_the_wire() -> None:
    with pytest.raises(ValueError, match="zone"):
        messages.encode(
            messages.Status(
                id="a",
                serial="40" * 16,
                state=messages.ReportedState.ACTIVE,
                renew_after=datetime(2026, 1, 1),  # noqa: DTZ001
            )
        )
    assert datetime(2026, 1, 1, tzinfo=UTC)
