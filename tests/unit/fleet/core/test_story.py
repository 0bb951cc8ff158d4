"""A device's story in words: each act is told, each refusal says what to do, and nothing is left out."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.problems import ProblemCode
from fleet.core.story import Came, Decision, decision
from fleet.model import AuditEntry

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
HASH = "0123456789abcdef" * 4


def told(action: str, *, actor: str = "server", **details: str) -> Decision:
    entry = AuditEntry(
        at=AT, action=action, actor=actor, domain="prod", device_id="d1", details=tuple(details.items())
    )
    return decision(entry)


def test_a_first_certificate_and_a_next_one_are_told_apart() -> None:
    first = told("certificate.intended", key_hash=HASH, issuer="ab")
    following = told("certificate.intended", key_hash=HASH, parent="4100", issuer="ab")
    assert (first.step, following.step) == ("enroll", "renew")
    assert first.saw == following.saw == "key 0123456789ab..."
    assert "4100" in following.rule


def test_a_refusal_names_its_step_its_code_and_what_to_do() -> None:
    found = told(
        "request.refused", request="renew", code="suspended", reason="the device is suspended", address="::1"
    )
    assert (found.step, found.came, found.rule) == ("renew", Came.REFUSED, "suspended")
    assert found.saw == "the device is suspended from ::1"
    assert found.advice == "fleet device resume d1 --domain prod"


def test_the_failing_step_stands_behind_the_request() -> None:
    assert told("request.refused", request="renew", step="standing", code="frozen").step == "renew/standing"


def test_who_only_said_to_be_it_is_told_so() -> None:
    found = told("request.refused", actor="unknown", request="enroll", code="code-invalid", reason="no")
    assert "by somebody who said to be it" in found.saw


@pytest.mark.parametrize("code", ProblemCode)
def test_every_refusal_says_what_to_do(code: ProblemCode) -> None:
    assert told("request.refused", code=code.value, reason="so").advice


def test_a_refusal_of_another_kind_is_told_as_it_stands() -> None:
    found = told("request.refused", code="moonlight", reason="so")
    assert (found.step, found.rule, found.advice) == ("request", "moonlight", "")


@pytest.mark.parametrize(
    ("action", "details", "step", "saw"),
    [
        ("device.suspended", {"reason": "under repair"}, "suspend", "under repair"),
        ("device.registered", {"kind": "agent"}, "register", "agent"),
        ("device.ruled", {"assurance": "code"}, "rule", "assurance code"),
        ("device.changed", {"event": "connected", "became": "{}"}, "connected", ""),
        ("device.changed", {}, "device.changed", ""),
        ("code.created", {"code": HASH}, "admit", "code 0123456789ab..."),
        ("device.done", {}, "done", ""),
    ],
)
def test_an_act_is_told_by_what_it_saw(action: str, details: dict[str, str], step: str, saw: str) -> None:
    found = told(action, **details)
    assert (found.step, found.saw) == (step, saw)


def test_an_alarm_is_one() -> None:
    assert told("device.alarmed", evidence="clone").came is Came.ALARM


@given(st.text(), st.dictionaries(st.text(), st.text(), max_size=4))
def test_whatever_stands_on_the_trail_is_told(action: str, details: dict[str, str]) -> None:
    found = decision(
        AuditEntry(at=AT, action=action, actor="unknown", device_id="d1", details=tuple(details.items()))
    )
    assert found.step or not action.partition(".")[0]


def test_what_no_table_knows_is_told_by_its_own_words() -> None:
    found = told("moon.landed-on", rocket="a11", became="{}")
    assert found == Decision(step="moon", came=Came.DONE, rule="landed on", saw="rocket a11")
