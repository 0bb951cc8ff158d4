"""The guard's lines: events and replies, and that nothing else is taken for one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.broker.words import MalformedWordsError, read_decision, read_event, read_reply
from fleet.grants import Action, TopicDecision
from fleet.model import BrokerEventKind


def test_an_event_is_read() -> None:
    event = read_event("event 17 refused ab12 40ff - a%20b%2D%C3%A9 127.0.0.1 unlisted 1893456000123")

    assert (event.kind, event.stamp, event.serial) == (BrokerEventKind.REFUSED, 17, "40ff")
    assert (event.name, event.client_id, event.reason) == ("", "a b-\u00e9", "unlisted")
    assert event.at.isoformat() == "2030-01-01T00:00:00.123000+00:00"


def test_a_decision_is_read() -> None:
    found = read_decision("decision prod:d1 publish denied a%2Fb%2F%20c")

    assert found == TopicDecision(name="prod:d1", action=Action.PUBLISH, topic="a/b/ c", allowed=False)


@given(st.text(max_size=80))
def test_nothing_else_is_taken_for_a_decision(line: str) -> None:
    with suppress(MalformedWordsError):
        assert read_decision(line).name


def test_a_reply_is_read_with_its_status_and_what_was_dropped() -> None:
    reply = read_reply(
        "5 ok\ndropped prod:d1 prod:d1 40ff 812\nstatus r g 3 2 ff 99 1 0 aa\nmore", broker="mosquitto"
    )

    assert (reply.order_id, reply.error, reply.more) == ("5", "", True)
    assert [(dropped.name, dropped.took_us) for dropped in reply.dropped] == [("prod:d1", 812)]
    assert reply.status is not None
    assert (reply.status.sequence, reply.status.stamp) == (3, 99)


def test_a_refusal_is_read_with_its_code() -> None:
    assert read_reply("5 error gap", broker="mosquitto").error == "gap"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "event",
        "event x refused a b c d e f 1",
        "event 1 exploded a b c d e f 1",
        "event 1 refused a b c d e f 9" + "9" * 30,
    ],
)
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(MalformedWordsError):
        read_event(line)


@pytest.mark.parametrize(
    "text", ["", "5", "5 maybe", "5 ok\nstatus 1", "5 ok\ndropped a", "5 ok\nsession a b"]
)
def test_what_is_no_reply_is_refused(text: str) -> None:
    with pytest.raises(MalformedWordsError):
        read_reply(text, broker="mosquitto")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (read_event, lambda one: read_reply(one, broker="mosquitto")):
        with suppress(MalformedWordsError):
            read(text)
