"""Topics: derived from parsed names, parsed strictly on the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.topics import (
    EnrollTopics,
    OperationalTopics,
    parse_enroll_request,
    parse_operational_request,
)

SERIAL = "40" * 16
CLIENT = "ab" * 32


def test_the_operational_topics_are_those_of_the_contract() -> None:
    topics = OperationalTopics(identity=Identity(domain="prod", device_id="d1"), serial=SERIAL)
    assert topics.request == f"fleet/v1/prod/d1/{SERIAL}/request"
    assert topics.response == f"fleet/v1/prod/d1/{SERIAL}/response"
    assert topics.notice == "fleet/v1/prod/d1/notice"
    assert topics.state == "fleet/v1/prod/d1/state"
    assert topics.own == "devices/prod/d1"


def test_a_request_topic_leads_back_to_who_asks() -> None:
    operational = OperationalTopics(identity=Identity(domain="prod", device_id="a:b"), serial=SERIAL)
    assert parse_operational_request(operational.request) == operational
    bootstrap = EnrollTopics(client=CLIENT)
    assert parse_enroll_request(bootstrap.request) == bootstrap


@pytest.mark.parametrize(
    "topic",
    [
        "", "fleet/v1", f"fleet/v1/prod/d1/{SERIAL}/response", f"fleet/v2/prod/d1/{SERIAL}/request",
        f"fleet/v1/prod/+/{SERIAL}/request", f"fleet/v1/prod/d1/{SERIAL}/request/", "fleet/v1/#",
        f"fleet/v1/prod//{SERIAL}/request", f"$share/x/fleet/v1/prod/d1/{SERIAL}/request",
        f"fleet/v1/enroll/{CLIENT}/request",
    ],
)  # fmt: skip
def test_any_other_operational_topic_is_refused(topic: str) -> None:
    with pytest.raises(MalformedMessageError):
        parse_operational_request(topic)


@given(st.text())
def test_no_text_breaks_the_topic_parsers(topic: str) -> None:
    for parse in (parse_operational_request, parse_enroll_request):
        with pytest.raises(MalformedMessageError):
            parse(topic)
