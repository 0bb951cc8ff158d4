"""`[acts]` of fleet.toml: safe where nothing is said, and each fault told with its line."""

import pytest

from fleet.config import parse
from fleet.core.proposal import ActKind
from fleet.core.second_factor import CodedAct
from fleet.errors import BadInputError
from fleet.web import api
from fleet.web.api.coded import CODED

BEGINNING = '[fleet]\nname = "acme"\n[domains.prod]\n[acts]\n'


def test_nothing_said_leaves_a_small_fleet_its_freedom_and_a_large_one_its_second_operator() -> None:
    acts = parse(BEGINNING).acts
    assert (acts.second.devices, acts.second.percent, acts.second.percent_from) == (100, 10, 10)
    assert (acts.proposal_hours, acts.drift_percent) == (72, 5)
    assert acts.second.always == acts.code_for == frozenset()


def test_what_is_said_counts() -> None:
    acts = parse(BEGINNING + 'devices = 5\nalways = ["policy"]\ncode_for = ["revoke", "approve"]\n').acts
    assert acts.second.devices == 5
    assert acts.second.always == {ActKind.POLICY}
    assert acts.code_for == {CodedAct.REVOKE, CodedAct.APPROVE}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("devices = 0", "devices must be an integer from 1 to"),
        ("percent = 101", "percent must be an integer from 0 to 100"),
        ("percent_from = 0", "percent_from must be"),
        ('always = ["revoked"]', "always must be a list of some of revoke, "),
        (
            'always = ["revoke"]',
            "always may hold operator, policy, renew, rollout: ",
        ),
        ('code_for = ["nothing"]', "code_for must be a list of some of revoke, "),
        ("proposal_hours = 0", "proposal_hours must be an integer from 1 to 720"),
        ("drift_percent = -1", "drift_percent must be an integer from 0 to 100"),
        ("second_operator = true", "unknown key 'second_operator' in [acts]"),
    ],
)
def test_a_fault_is_told_with_its_line(line: str, said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(BEGINNING + line + "\n", source="fleet.toml")
    assert str(caught.value).startswith(f"fleet.toml:5: {said}")


def test_every_act_that_may_need_a_code_has_a_route_and_every_such_route_is_there() -> None:
    posts = {route.path for route in api.table() if route.method == "POST" and route.role is not None}
    assert set(CODED) <= posts
    assert set(CODED.values()) == set(CodedAct)
