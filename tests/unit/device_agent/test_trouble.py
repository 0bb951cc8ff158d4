"""What is wrong is kept with where, since when and what to do, for as long as it is the same."""

from datetime import UTC, datetime, timedelta

import pytest

from device_agent.errors import AgentError, ChannelError, KeyStoreError, RefusedError
from device_agent.trouble import DISCONNECTED, Trouble, cut_off, trouble_of
from device_agent.wire.problems import ProblemCode, Retry

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
AWAY = ChannelError("cannot connect to fleet.example:8883: timed out", hint="look at the network")


def test_a_problem_says_where_it_is_since_when_and_what_to_do() -> None:
    assert trouble_of(AWAY, None, now=NOW) == Trouble(
        word="unreachable",
        text="cannot connect to fleet.example:8883: timed out",
        since=NOW,
        hint="look at the network",
    )


def test_the_same_problem_again_has_been_there_since_the_first_time() -> None:
    first = trouble_of(AWAY, None, now=NOW)
    again = trouble_of(ChannelError("cannot connect to other.example:8883"), first, now=LATER)
    assert again is not None
    assert (again.since, again.text) == (NOW, "cannot connect to other.example:8883")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (KeyStoreError("the token is gone"), "key-store"),
        (RefusedError("no", code=ProblemCode.FROZEN, retry=Retry.LATER), "frozen"),
        (AgentError("anything"), "failed"),
    ],
    ids=str,
)
def test_another_problem_begins_anew_in_the_servers_words_where_it_has_one(
    error: AgentError, word: str
) -> None:
    found = trouble_of(error, trouble_of(AWAY, None, now=NOW), now=LATER)
    assert found is not None
    assert (found.word, found.since) == (word, LATER)


def test_an_attempt_that_succeeds_leaves_no_problem() -> None:
    assert trouble_of(None, trouble_of(AWAY, None, now=NOW), now=LATER) is None


def test_a_connection_that_ended_is_a_problem_of_its_own() -> None:
    first = cut_off("closed", None, now=NOW)
    assert (first.word, first.text) == (DISCONNECTED, "the connection ended: closed")
    assert cut_off("closed", first, now=LATER).since == NOW
