"""Topics and client ids: what is whose, and that nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from fleet.core import access, isolation
from fleet.core.access import Who
from fleet.grants import Action
from fleet.model import Purpose

SERIAL = "4" * 32
KEY_HASH = "ab" * 32
DEVICE = Who(purpose=Purpose.DEVICE, name="prod:d1", serial=SERIAL, client_id="prod:d1")
SDK = Who(purpose=Purpose.CLAIM, name="batch-1", serial=SERIAL, client_id="sdk-1")
CLAIM = Who(purpose=Purpose.CLAIM, name="batch-1", serial=SERIAL, client_id=KEY_HASH)
SERVICE = Who(purpose=Purpose.SERVICE, name="fleet-server", serial=SERIAL, client_id="fleet-server.requests")

OWN_PUBLISH = [
    f"fleet/v1/prod/d1/{SERIAL}/request",
    "fleet/v1/prod/d1/state",
    "devices/prod/d1",
    "devices/prod/d1/a/b",
]
OWN_SUBSCRIBE = [
    f"fleet/v1/prod/d1/{SERIAL}/response",
    "fleet/v1/prod/d1/notice",
    "devices/prod/d1/#",
    "devices/prod/d1/+/x",
    "devices/prod/d1",
]
FOREIGN = [
    "",
    "#",
    "+",
    "devices/#",
    "devices/+/d1/#",
    "devices/prod/#",
    "devices/prod/+/x",
    "devices/prod/d2/x",
    "devices/prod/d11/x",
    "/devices/prod/d1/x",
    "devices//d1/x",
    "fleet/v1/prod/d2/notice",
    f"fleet/v1/prod/d1/{'5' * 32}/response",
    f"fleet/v1/prod/d1/{'5' * 32}/request",
    "fleet/v1/prod/d1/+/response",
    f"fleet/v1/enroll/{KEY_HASH}/response",
    "$share/g/devices/prod/d1/#",
    "$SYS/#",
    access.CONTROL,
    access.GUARD_EVENTS,
]


@pytest.mark.parametrize("topic", OWN_PUBLISH)
def test_a_device_publishes_to_its_own_topics(topic: str) -> None:
    assert access.may_publish(DEVICE, topic)


@pytest.mark.parametrize("topic_filter", OWN_SUBSCRIBE)
def test_a_device_subscribes_its_own_topics(topic_filter: str) -> None:
    assert access.may_subscribe(DEVICE, topic_filter)


@pytest.mark.parametrize("topic", FOREIGN)
def test_a_device_reaches_nothing_else(topic: str) -> None:
    assert not access.may_publish(DEVICE, topic)
    assert not access.may_receive(DEVICE, topic)
    assert not access.may_subscribe(DEVICE, topic)


def test_a_device_does_not_hear_its_own_requests_nor_send_its_own_answers() -> None:
    assert not access.may_subscribe(DEVICE, f"fleet/v1/prod/d1/{SERIAL}/request")
    assert not access.may_publish(DEVICE, f"fleet/v1/prod/d1/{SERIAL}/response")
    assert not access.may_publish(DEVICE, "fleet/v1/prod/d1/notice")


def test_a_claim_has_one_request_and_one_answer() -> None:
    assert access.may_publish(CLAIM, f"fleet/v1/enroll/{KEY_HASH}/request")
    assert access.may_subscribe(CLAIM, f"fleet/v1/enroll/{KEY_HASH}/response")
    assert not access.may_publish(CLAIM, f"fleet/v1/enroll/{'cd' * 32}/request")
    assert not access.may_subscribe(CLAIM, "fleet/v1/enroll/+/response")


CREATE = "$aws/certificates/create-from-csr/json"
REGISTER = "$aws/provisioning-templates/line3/provision/json"


@pytest.mark.parametrize("topic", [CREATE, REGISTER, "$aws/certificates/create/json"])
def test_a_claim_asks_and_hears_on_the_topics_of_aws(topic: str) -> None:
    assert access.may_publish(SDK, topic)
    assert access.may_subscribe(SDK, f"{topic}/accepted")
    assert access.may_subscribe(SDK, f"{topic}/rejected")


@pytest.mark.parametrize(
    "topic",
    [
        "$aws/#",
        "$aws/certificates/#",
        f"{CREATE}/#",
        f"{CREATE}/+",
        f"$share/g/{CREATE}/accepted",
        "$aws/certificates/other/json/accepted",
        "$aws/things/d1/shadow/get/accepted",
        "$fleet/aws/#",
        "$fleet/aws/+/+/+/+/request/#",
        "fleet/v1/enroll/sdk-1/response",
        f"fleet/v1/enroll/{KEY_HASH}/response",
    ],
)
def test_a_claim_hears_nothing_else_of_aws(topic: str) -> None:
    assert not access.may_subscribe(SDK, topic)
    assert not access.may_publish(SDK, topic)


def test_a_claim_can_neither_answer_nor_ask_for_another_connection() -> None:
    inside = isolation.SharedLink(issuer="ab" * 20, serial=SERIAL, client_id="sdk-1", name=f"{'0' * 16}-7")

    assert not access.may_publish(SDK, f"{CREATE}/accepted")
    assert not access.may_publish(SDK, inside.request(CREATE))
    assert not access.may_publish(SDK, inside.answer(f"{CREATE}/accepted"))
    assert access.may_publish(SERVICE, inside.answer(f"{CREATE}/accepted"))
    assert not access.may_publish(SERVICE, inside.request(CREATE))


def test_devices_reach_nothing_of_aws() -> None:
    assert not access.may_publish(DEVICE, CREATE)
    assert not access.may_subscribe(DEVICE, f"{CREATE}/accepted")


@pytest.mark.parametrize(("who", "retains"), [(DEVICE, True), (CLAIM, False), (SDK, False), (SERVICE, True)])
def test_only_those_with_a_certificate_of_their_own_leave_retained_messages(who: Who, retains: bool) -> None:
    assert access.may_retain(who) is retains


@pytest.mark.parametrize(
    "topic_filter", ["fleet/v1/enroll/+/request", "fleet/v1/+/+/+/request", "fleet/v1/+/+/state"]
)
def test_the_service_hears_requests_and_states(topic_filter: str) -> None:
    assert access.may_subscribe(SERVICE, topic_filter)
    assert not access.may_subscribe(SERVICE, f"$share/g/{topic_filter}")


@pytest.mark.parametrize(
    "topic_filter", ["#", "fleet/#", "fleet/v1/+/+/+/+", "fleet/v1/+/#", "+/+/+/+/+/request"]
)
def test_the_service_hears_no_more_than_it_needs(topic_filter: str) -> None:
    assert not access.may_subscribe(SERVICE, topic_filter)


@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if not access.connects(purpose)])
def test_other_purposes_do_not_connect_and_reach_nothing(purpose: Purpose) -> None:
    who = Who(purpose=purpose, name="prod:d1", serial=SERIAL, client_id="prod:d1")

    assert access.why_not(who, keepalive_s=10, clean_session=True) == "purpose"
    assert not any(access.may_publish(who, topic) for topic in [*OWN_PUBLISH, *FOREIGN])


@pytest.mark.parametrize(
    ("who", "client_id", "keepalive_s", "clean", "reason"),
    [
        (DEVICE, "prod:d1", 0, False, None),
        (DEVICE, "prod:d2", 10, True, "client-id"),
        (CLAIM, KEY_HASH, 15, True, None),
        (CLAIM, KEY_HASH, 16, True, "keepalive"),
        (CLAIM, KEY_HASH, 0, True, "keepalive"),
        (CLAIM, KEY_HASH, 10, False, "session"),
        (CLAIM, "sdk-1", 1200, False, None),
        (CLAIM, "a/b+c#$ \u00e9", 0, True, None),
        (CLAIM, "sdk:1:x", 10, True, "client-id"),
        (CLAIM, "prod:d1", 10, True, "client-id"),
        (CLAIM, "Prod:d1", 10, True, None),
        (CLAIM, "", 10, True, "client-id"),
        (CLAIM, "x" * 128, 10, True, None),
        (CLAIM, "x" * 127 + "\u00e9", 10, True, "client-id"),
        (SERVICE, "fleet-server", 10, True, None),
        (SERVICE, "fleet-server.a-9", 10, True, None),
        (SERVICE, "fleet-server.", 10, True, "client-id"),
        (SERVICE, "fleet-server." + "a" * 33, 10, True, "client-id"),
        (SERVICE, "other", 10, True, "client-id"),
    ],
)
def test_how_each_purpose_connects(
    who: Who, client_id: str, keepalive_s: int, clean: bool, reason: str | None
) -> None:
    asking = Who(purpose=who.purpose, name=who.name, serial=who.serial, client_id=client_id)

    assert access.why_not(asking, keepalive_s=keepalive_s, clean_session=clean) == reason


def test_a_device_is_told_the_topics_that_it_may_use() -> None:
    identity = Identity(domain="prod", device_id="d1")

    publish = access.topics_of(identity, serial=SERIAL, action=Action.PUBLISH)
    subscribe = access.topics_of(identity, serial=SERIAL, action=Action.SUBSCRIBE)

    assert publish == (f"fleet/v1/prod/d1/{SERIAL}/request", "fleet/v1/prod/d1/state", "devices/prod/d1/#")
    assert all(access.may_subscribe(DEVICE, topic_filter) for topic_filter in subscribe)


def test_every_rule_is_compiled_once() -> None:
    lines = access.compiled().splitlines()

    assert lines[0] == "fleet-rules 2"
    assert lines[-1] == f"end {len(lines) - 2}"
    grants = [
        "set device",
        "allow publish devices/{domain}/{id}/#",
        "allow subscribe devices/{domain}/{id}/#",
    ]
    assert lines[-5:-1] == [*grants, "class 1"]
    assert len(lines) - 6 == len(access.CONNECT_RULES) + len(access.TOPIC_RULES)
    assert all(len(rule.pattern) <= access.LONGEST_PATTERN for rule in access.TOPIC_RULES)


def matches(topic_filter: list[str], topic: list[str]) -> bool:
    """MQTT 3.1.1 4.7, said again and otherwise, for the test."""
    if topic_filter == ["#"] or (not topic_filter and not topic):
        return True
    if not topic_filter:
        return False
    if not topic:
        return topic_filter == ["#"]
    return topic_filter[0] in {"+", topic[0]} and matches(topic_filter[1:], topic[1:])


LEVELS = st.sampled_from(
    ["fleet", "v1", "prod", "lab", "d1", "d2", SERIAL, "request", "response", "notice", "x", ""]
)
SHARED = st.sampled_from(
    ["$aws", "certificates", "create-from-csr", "provisioning-templates", "provision", "accepted", "x"]
)
FILTERS = st.lists(LEVELS | SHARED | st.sampled_from(["+", "#", "devices"]), min_size=1, max_size=7)
TOPICS = st.lists(LEVELS | SHARED | st.just("devices"), min_size=1, max_size=7)


@given(st.sampled_from([DEVICE, CLAIM, SDK, SERVICE]), FILTERS, TOPICS)
def test_whoever_may_subscribe_a_filter_may_receive_all_that_it_matches(
    who: Who, topic_filter: list[str], topic: list[str]
) -> None:
    valid = "#" not in topic_filter[:-1]
    if valid and matches(topic_filter, topic) and access.may_subscribe(who, "/".join(topic_filter)):
        assert access.may_receive(who, "/".join(topic))
