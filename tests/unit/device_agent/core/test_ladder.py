"""The ladder of recovery: on which rung a device stands after each attempt, and what it says it needs."""

import itertools
from datetime import UTC, datetime

import pytest

from device_agent.core.ladder import Rung, Shown, Standing, need_of, rung_of
from device_agent.wire.problems import ProblemCode

AWAY = Shown()
ALL = [
    Shown(admitted=admitted, has_key=has_key, has_way_back=has_way_back, answer=answer)
    for admitted, has_key, has_way_back, answer in itertools.product(
        (True, False), (True, False), (True, False), (None, *ProblemCode)
    )
]


@pytest.mark.parametrize("before", Rung)
def test_a_certificate_that_is_admitted_is_the_ground_whatever_was_before(before: Rung) -> None:
    assert rung_of(Shown(admitted=True), before=before) is Rung.CERTIFICATE


@pytest.mark.parametrize("before", Rung)
def test_a_key_that_is_gone_needs_a_code_though_its_certificate_would_be_admitted(before: Rung) -> None:
    assert rung_of(Shown(admitted=True, has_key=False), before=before) is Rung.CODE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Rung.CERTIFICATE, Rung.OLD_KEY),
        (Rung.OLD_KEY, Rung.OLD_KEY),
        (Rung.OPERATOR, Rung.OPERATOR),
        (Rung.CODE, Rung.CODE),
    ],
)
def test_a_server_that_is_away_changes_nothing_but_that_the_old_key_is_tried(
    before: Rung, after: Rung
) -> None:
    assert rung_of(AWAY, before=before) is after


@pytest.mark.parametrize("before", Rung)
@pytest.mark.parametrize(
    ("answer", "after"),
    [
        (ProblemCode.SUSPENDED, Rung.OPERATOR),
        (ProblemCode.FROZEN, Rung.OPERATOR),
        (ProblemCode.NOT_CURRENT, Rung.CODE),
        (ProblemCode.REVOKED, Rung.CODE),
        (ProblemCode.UNKNOWN_DEVICE, Rung.CODE),
    ],
)
def test_what_the_server_says_counts_more_than_what_was_before(
    before: Rung, answer: ProblemCode, after: Rung
) -> None:
    assert rung_of(Shown(answer=answer), before=before) is after


@pytest.mark.parametrize("before", Rung)
def test_without_a_way_back_only_a_code_helps_unless_an_operator_decides(before: Rung) -> None:
    assert rung_of(Shown(has_way_back=False), before=before) is Rung.CODE
    frozen = Shown(has_way_back=False, answer=ProblemCode.FROZEN)
    assert rung_of(frozen, before=before) is Rung.OPERATOR


@pytest.mark.parametrize("before", Rung)
def test_every_attempt_leads_to_a_rung_and_the_same_attempt_again_to_no_other(before: Rung) -> None:
    for shown in ALL:
        once = rung_of(shown, before=before)
        assert rung_of(shown, before=once) is once


@pytest.mark.parametrize("rung", Rung)
def test_what_is_needed_names_the_device_where_an_operator_has_to_act(rung: Rung) -> None:
    standing = Standing(rung=rung, since=datetime(2026, 1, 1, tzinfo=UTC), why="x")
    need = need_of(standing, domain="prod", device_id="d1")
    assert ("d1" in need) == (rung in {Rung.OPERATOR, Rung.CODE})
