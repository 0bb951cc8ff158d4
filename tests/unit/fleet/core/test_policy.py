"""The access policy: what it grants, that a denial wins wherever it stands, and what is wrong with one."""

from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet.access_file import DEFAULT_TEXT, parse
from fleet.core import access
from fleet.core.access import Who
from fleet.core.policy import Facts, Policy, decide, grants_of, roles_of, users_of
from fleet.core.policy_check import MOST_KINDS, findings
from fleet.grants import DEFAULT_CLASSES, Action
from fleet.model import Purpose
from tests.policies import FACTS, FILTER, POLICY, TOPIC

SERIAL = "4" * 32
PROFILES = {"prod": frozenset({"device", "edge"}), "lab": frozenset({"device"})}
DEVICE = Who(purpose=Purpose.DEVICE, name="prod:d1", serial=SERIAL, client_id="prod:d1")

NORTH: Facts = {"group": frozenset({"north"}), "domain": frozenset({"prod"})}
RULES = """\
[[allow]]
name = "own topics"
publish = ["devices/{domain}/{id}/#"]
subscribe = ["devices/{domain}/{id}/#"]

[[allow]]
name = "the group's orders"
when = { group = ["north", "south"] }
subscribe = ["sites/{group}/orders/#"]
roles = ["reader"]
users = ["{domain}:{id}"]

[[deny]]
name = "no raw data"
when = { domain = "prod" }
publish = ["devices/+/+/raw/#"]
"""


DENY_X = "[[deny]]\nname = 'd'\npublish = ['x/#']\n"


def allowed(text: str, facts: Facts, action: Action, topic: str) -> bool:
    return decide(parse(text), DEVICE, facts, action=action, topic=topic).allowed


def test_the_default_policy_grants_each_device_its_own_topics() -> None:
    assert grants_of(parse(DEFAULT_TEXT), {}) == DEFAULT_CLASSES[1]


def test_a_rule_holds_for_those_of_whom_its_conditions_are_known() -> None:
    assert allowed(RULES, NORTH, Action.SUBSCRIBE, "sites/north/orders/1")
    assert not allowed(RULES, NORTH, Action.SUBSCRIBE, "sites/south/orders/1")
    assert not allowed(RULES, {}, Action.SUBSCRIBE, "sites/north/orders/1")


def test_assurance_is_asked_for_as_the_least_that_is_taken() -> None:
    text = "[[allow]]\nname = 'a'\nwhen = { assurance = 'approved' }\npublish = ['x']\n"

    assert allowed(text, {"assurance": frozenset({"hardware"})}, Action.PUBLISH, "x")
    assert not allowed(text, {"assurance": frozenset({"code"})}, Action.PUBLISH, "x")


def test_a_denial_wins_and_a_filter_that_reaches_into_it_is_refused_whole() -> None:
    deny = "[[deny]]\nname = 'd'\nsubscribe = ['devices/{domain}/{id}/raw/#']\n"

    assert not allowed(RULES, NORTH, Action.PUBLISH, "devices/prod/d1/raw/x")
    assert allowed(RULES, {}, Action.PUBLISH, "devices/prod/d1/raw/x")
    assert not allowed(RULES + deny, {}, Action.SUBSCRIBE, "devices/prod/d1/#")
    assert allowed(RULES + deny, {}, Action.SUBSCRIBE, "devices/prod/d1/state/#")


def test_an_answer_names_the_rule_and_the_line_it_rests_on() -> None:
    policy = parse(RULES)

    denied = decide(policy, DEVICE, NORTH, action=Action.PUBLISH, topic="devices/prod/d1/raw")
    granted = decide(policy, DEVICE, NORTH, action=Action.PUBLISH, topic="devices/prod/d1/x")
    nothing = decide(policy, DEVICE, {}, action=Action.SUBSCRIBE, topic="sites/north/orders/1")
    assert (denied.rule, denied.by and denied.by.line) == (policy.rules[2], 16)
    assert (granted.rule, granted.by and granted.by.line) == (policy.rules[0], 3)
    assert (nothing.rule, nothing.near) == (None, (policy.rules[1],))


def test_a_rule_that_would_allow_it_is_named_with_what_it_lacks() -> None:
    text = "[[allow]]\nname = 'a'\nwhen = { tag = 'gold' }\npublish = ['x/#']\n"

    found = decide(parse(text), DEVICE, {}, action=Action.PUBLISH, topic="x/1")
    assert [rule.name for rule in found.near] == ["a"]


def test_what_the_protocol_needs_no_rule_can_take() -> None:
    found = decide(parse(RULES), DEVICE, NORTH, action=Action.PUBLISH, topic="fleet/v1/prod/d1/state")

    assert (found.allowed, found.protocols) == (True, True)


@pytest.mark.parametrize("value", ["a/b", "+", "#", "", "a b", "\u00e4", "{id}", "x" * 65])
def test_a_value_that_is_no_level_of_a_topic_fills_no_variable(value: str) -> None:
    text = "[[allow]]\nname = 'a'\npublish = ['sites/{group}/x']\n"

    assert grants_of(parse(text), {"group": frozenset({value})}).grants == ()


def test_relying_parties_are_told_users_and_roles() -> None:
    policy = parse(RULES)

    assert roles_of(policy, NORTH) == {"reader"}
    assert users_of(policy, DEVICE, NORTH) == {"prod:d1"}
    assert roles_of(policy, {}) == users_of(policy, DEVICE, {}) == frozenset()


def test_a_role_that_is_denied_is_taken_whoever_gives_it() -> None:
    deny = "[[deny]]\nname = 'd'\nroles = ['reader']\n"

    assert roles_of(parse(RULES + deny), NORTH) == frozenset()


@given(POLICY, FACTS, st.sampled_from(Action), TOPIC | FILTER)
def test_the_evaluator_says_what_the_grants_say(
    policy: Policy, facts: Facts, action: Action, topic: str
) -> None:
    classes = {1: grants_of(policy, facts)}
    judge = access.may_publish if action is Action.PUBLISH else access.may_subscribe

    found = decide(policy, DEVICE, facts, action=action, topic=topic)
    assert found.allowed == judge(DEVICE, topic, classes=classes)
    assert found.allowed is False or found.protocols or found.rule is not None


@given(POLICY, FACTS, FILTER, TOPIC)
@example(parse(RULES), NORTH, "devices/prod/d1/#", "devices/prod/d1/raw")
def test_whoever_may_subscribe_a_filter_may_receive_all_that_it_matches(
    policy: Policy, facts: Facts, topic_filter: str, topic: str
) -> None:
    classes = {1: grants_of(policy, facts)}
    if matches(topic_filter.split("/"), topic.split("/")) and access.may_subscribe(
        DEVICE, topic_filter, classes=classes
    ):
        assert access.may_receive(DEVICE, topic, classes=classes)


def matches(wanted: list[str], levels: list[str]) -> bool:
    if wanted[:1] == ["#"]:
        return True
    if not wanted or not levels:
        return wanted in (levels, ["#"])
    return wanted[0] in {"+", levels[0]} and (
        matches(wanted[1:], levels[1:]) or (wanted[1:] == ["#"] and not levels[1:])
    )


@given(st.lists(st.sampled_from(["own", "deny", "north"]), unique=True), FACTS, TOPIC)
def test_the_order_of_rules_means_nothing(names: list[str], facts: Facts, topic: str) -> None:
    texts = {
        "own": "[[allow]]\nname = 'o'\npublish = ['devices/{domain}/{id}/#', 'sites/#']\n",
        "deny": "[[deny]]\nname = 'd'\nwhen = { group = 'north' }\npublish = ['sites/+/#']\n",
        "north": "[[allow]]\nname = 'n'\nwhen = { group = 'north' }\npublish = ['sites/north']\n",
    }
    answers = {
        allowed("".join(texts[name] for name in order), facts, Action.PUBLISH, topic)
        for order in permutations(names)
    }
    assert len(answers) == 1


# What is wrong with a policy.


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "grants nothing to anybody"),
        ("[[deny]]\nname = 'd'\npublish = ['x']\n", 1, "grants nothing to anybody"),
        (RULES + "[[deny]]\nname = 'd'\npublish = ['x/#']\n", 17, "denies what no rule allows"),
        (
            RULES + "[[allow]]\nname = 'a'\nwhen = { tag = 'x' }\npublish = ['devices/{domain}/{id}/a']\n",
            17,
            "rule 'own topics' (line 1) allows all of it already",
        ),
        (
            "[[allow]]\nname = 'a'\nwhen = { group = 'n' }\npublish = ['x/+']\n" + DENY_X,
            1,
            "rule 'd' (line 5) denies all of it already",
        ),
        (
            "[[allow]]\nname = 'a'\npublish = ['x']\n[[allow]]\nname = 'b'\npublish = ['x']\n",
            4,
            "rule 'a' (line 1) allows all of it already",
        ),
        (
            "[[allow]]\nname = 'a'\nwhen = { domain = 'moon' }\npublish = ['x']\n",
            3,
            "there is no such domain",
        ),
        (
            "[[allow]]\nname = 'a'\nwhen = { domain = 'lab', profile = 'edge' }\npublish = ['x']\n",
            3,
            "no domain of the rule has such a profile",
        ),
        (
            "[[allow]]\nname = 'a'\npublish = ['x']\nusers = ['{domain}-{id}']\n",
            4,
            "two devices can be the same user",
        ),
    ],
)
def test_a_policy_with_a_fault_is_told_with_its_line(text: str, line: int, reason: str) -> None:
    found = findings(parse(text), profiles=PROFILES)

    assert [(each.line, reason in each.message) for each in found][:1] == [(line, True)]
    assert all(each.hint for each in found)


def test_a_policy_that_grants_nothing_to_any_device_that_is_there_is_a_fault() -> None:
    text = "[[allow]]\nname = 'a'\nwhen = { group = 'north' }\npublish = ['x']\n"

    assert findings(parse(text), profiles=PROFILES, known=[{"group": frozenset({"south"})}])
    assert not findings(parse(text), profiles=PROFILES, known=[NORTH])
    assert not findings(parse(text), profiles=PROFILES)


def test_a_policy_that_tells_each_device_from_every_other_is_a_fault() -> None:
    known = [
        {"group": frozenset({"north"}), "domain": frozenset({str(number)})}
        for number in range(MOST_KINDS + 1)
    ]

    (found,) = findings(parse(RULES), profiles=PROFILES, known=known)

    assert (found.line, found.message) == (15, "domain tells more than 10000 kinds of certificates apart")
    assert not findings(parse(RULES), profiles=PROFILES, known=known[1:])


@pytest.mark.parametrize("text", [DEFAULT_TEXT, RULES])
def test_a_policy_without_a_fault_has_no_finding(text: str) -> None:
    assert findings(parse(text), profiles=PROFILES) == ()
