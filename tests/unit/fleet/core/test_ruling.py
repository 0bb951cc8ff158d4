"""What profiles say to a request: every rule can refuse, our records go before a label."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.core.goodkey import POST_QUANTUM, KeyType
from fleet.core.profile import DEFAULT_PROFILES
from fleet.core.recorded import facts_text, read_facts
from fleet.core.ruling import Channel, Facts, Outcome, Rules, Step, rule
from fleet.model import Assurance, Purpose

DEVICE = DEFAULT_PROFILES[Purpose.DEVICE]
GATEWAY = replace(DEVICE, name="gateway", names=("{id}.{hardware}.example.org",), by_label=True)
STRICT = replace(DEVICE, name="strict", assurance=Assurance.MANUFACTURER)
WATCHED = replace(DEVICE, name="watched", approval=True)
QUANTUM = replace(DEVICE, key_types=POST_QUANTUM)
RULES = Rules(
    fleet="acme",
    profiles={"prod": (DEVICE, GATEWAY, STRICT, WATCHED), "lab": (QUANTUM,)},
    grace=timedelta(days=30),
)
FACTS = Facts(
    step=Step.FIRST,
    channel=Channel.OTHER,
    identity=Identity(domain="prod", device_id="d1"),
    key_type=KeyType.P256,
    assurance=Assurance.CODE,
    hardware="gw3",
)


def profile_for(facts: Facts) -> str:
    ruling = rule(RULES, facts)
    assert ruling.terms is not None, ruling
    return ruling.terms.profile.name


def refusal(facts: Facts, rules: Rules = RULES) -> ProblemCode:
    ruling = rule(rules, facts)
    assert ruling.outcome is Outcome.REFUSED
    assert ruling.reason
    assert ruling.terms is None
    assert ruling.code is not None
    return ruling.code


def test_a_device_that_nothing_is_said_of_gets_the_domains_own_profile() -> None:
    assert profile_for(FACTS) == "device"


def test_the_device_goes_before_its_batch() -> None:
    in_batch = replace(FACTS, batch="line3", batch_profile="watched")

    assert profile_for(in_batch) == "watched"
    assert profile_for(replace(in_batch, device_profile="gateway")) == "gateway"


def test_a_label_chooses_only_what_may_be_chosen_by_labels() -> None:
    assert profile_for(replace(FACTS, label="gateway")) == "gateway"
    assert profile_for(replace(FACTS, label="device")) == "device"
    assert refusal(replace(FACTS, label="watched")) is ProblemCode.NOT_ALLOWED
    assert refusal(replace(FACTS, label="nothing")) is ProblemCode.NOT_ALLOWED


def test_a_label_never_changes_what_our_records_say() -> None:
    recorded = replace(FACTS, device_profile="watched")

    assert profile_for(replace(recorded, label="watched")) == "watched"
    assert refusal(replace(recorded, label="gateway")) is ProblemCode.NOT_ALLOWED
    assert refusal(replace(recorded, label="device")) is ProblemCode.NOT_ALLOWED


def test_a_profile_that_is_gone_is_refused_and_not_replaced_by_another() -> None:
    assert refusal(replace(FACTS, device_profile="gone")) is ProblemCode.NOT_ALLOWED
    assert (
        refusal(replace(FACTS, identity=Identity(domain="none", device_id="d1"))) is ProblemCode.NOT_ALLOWED
    )


def test_each_rule_refuses_what_breaks_it() -> None:
    rsa = replace(RULES, profiles={"prod": (replace(DEVICE, rsa_bits=3072),)})
    next_one = replace(FACTS, step=Step.NEXT)

    assert refusal(replace(FACTS, key_type=KeyType.ML_DSA_44)) is ProblemCode.BAD_KEY
    assert refusal(replace(FACTS, key_type=KeyType.RSA, rsa_bits=2048), rsa) is ProblemCode.BAD_KEY
    assert rule(rsa, replace(FACTS, key_type=KeyType.RSA, rsa_bits=3072)).outcome is Outcome.GRANTED
    assert refusal(replace(FACTS, device_profile="strict")) is ProblemCode.NOT_ALLOWED
    assert refusal(replace(FACTS, device_profile="gateway", hardware="no label")) is ProblemCode.BAD_IDENTITY
    assert refusal(replace(next_one, keeps_key=True)) is ProblemCode.KEY_IN_USE
    assert refusal(replace(next_one, expired_for=timedelta(days=31))) is ProblemCode.NOT_CURRENT


def test_the_same_key_needs_a_profile_that_allows_it_and_a_device_that_can() -> None:
    lenient = replace(RULES, profiles={"prod": (replace(DEVICE, same_key=True),)})
    keeping = replace(FACTS, step=Step.NEXT, keeps_key=True)

    assert rule(lenient, replace(keeping, may_keep_key=True)).outcome is Outcome.GRANTED
    assert refusal(keeping, lenient) is ProblemCode.KEY_IN_USE


def test_a_post_quantum_key_is_certified_but_not_over_mqtt_which_it_could_not_use() -> None:
    lab = replace(FACTS, identity=Identity(domain="lab", device_id="d1"), key_type=KeyType.ML_DSA_65)

    assert rule(RULES, lab).outcome is Outcome.GRANTED
    assert refusal(replace(lab, channel=Channel.MQTT)) is ProblemCode.BAD_KEY


def test_what_needs_approval_waits_for_it_once_and_is_not_asked_for_again() -> None:
    watched = replace(FACTS, device_profile="watched")

    assert rule(RULES, watched).outcome is Outcome.WAITS
    assert rule(RULES, replace(watched, is_approved=True)).outcome is Outcome.GRANTED
    assert rule(RULES, replace(watched, step=Step.NEXT)).outcome is Outcome.GRANTED


@pytest.mark.parametrize("level", Assurance)
def test_as_much_assurance_as_is_needed_is_enough_and_less_is_not(level: Assurance) -> None:
    outcome = rule(RULES, replace(FACTS, device_profile="strict", assurance=level)).outcome

    assert (outcome is Outcome.GRANTED) == (level >= Assurance.MANUFACTURER)


@given(
    st.builds(
        Facts,
        step=st.sampled_from(Step),
        channel=st.sampled_from(Channel),
        identity=st.builds(
            Identity,
            domain=st.sampled_from(["prod", "lab"]),
            device_id=st.from_regex(r"[A-Za-z0-9]{1,20}", fullmatch=True),
        ),
        key_type=st.sampled_from(KeyType),
        rsa_bits=st.integers(0, 4096),
        assurance=st.sampled_from(Assurance),
        label=st.sampled_from(["", "gateway", "device"]),
        device_profile=st.sampled_from(["", "strict"]),
        batch=st.sampled_from(["", "line3"]),
        hardware=st.text(max_size=30).filter(str.isprintable),
        attributes=st.dictionaries(st.sampled_from(["site", "row"]), st.sampled_from(["a", "b-1"])).map(
            lambda found: tuple(sorted(found.items()))
        ),
        is_approved=st.booleans(),
        keeps_key=st.booleans(),
        may_keep_key=st.booleans(),
        expired_for=st.none() | st.integers(1, 10**8).map(lambda seconds: timedelta(seconds=seconds)),
    )
)
def test_recorded_facts_come_back_as_they_were_and_get_the_same_ruling(facts: Facts) -> None:
    again = read_facts(facts_text(facts))

    assert again == facts
    assert rule(RULES, again) == rule(RULES, facts)


def test_a_level_that_there_is_not_is_no_level() -> None:
    with pytest.raises(MalformedMessageError, match="assurance"):
        read_facts(facts_text(FACTS).replace('"code"', '"certain"'))


@given(st.text(max_size=80))
def test_any_other_text_is_no_facts(text: str) -> None:
    with pytest.raises(MalformedMessageError):
        read_facts(text)
