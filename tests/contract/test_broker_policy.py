"""The access policy at live brokers: they answer as the evaluator does, at once after a change."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.access_file import parse
from fleet.core.access import Who
from fleet.core.policy import Facts, Policy, decide, grants_of
from fleet.grants import Action, Classes, Effect, Grant, GrantSet, TopicDecision
from fleet.model import AllowlistChange, AllowlistEntry, Purpose
from tests.broker_world import World
from tests.mqtt import REFUSED_SUBSCRIPTION, MqttClient
from tests.pki import entry_of
from tests.policies import FACTS, FILTER, POLICY, TOPIC

TAP_CLASS, NORTH_CLASS = 7, 8
TAP = GrantSet(
    purpose=Purpose.BACKEND,
    grants=tuple(
        Grant(effect=Effect.ALLOW, action=action, pattern=pattern)
        for action in Action
        for pattern in ("devices/#", "sites/#", "end")
    ),
)
OPEN = parse("""\
[[allow]]
name = "a"
publish = ["sites/#"]
subscribe = ["sites/#", "devices/prod/d1/#"]
""")


def classes_of(policy: Policy, facts: Facts | None = None) -> Classes:
    """Return what the policy says to the device, and that it may hear the end of a round."""
    return {1: with_end(grants_of(policy, facts or {})), TAP_CLASS: TAP}


def with_end(granted: GrantSet) -> GrantSet:
    end = Grant(effect=Effect.ALLOW, action=Action.SUBSCRIBE, pattern="end")
    return replace(granted, grants=(*granted.grants, end))


class Tapped:
    """A world with a device, and a backend that hears everything and can tell everybody."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pair = world.home.pki.service("tap")
        self.rounds = 0

    @property
    def entry(self) -> AllowlistEntry:
        return replace(entry_of(self.pair, "tap", purpose=Purpose.BACKEND), access=TAP_CLASS)

    async def start(self) -> None:
        await self.world.broker.govern(classes_of(OPEN))
        await self.world.broker.change(AllowlistChange(sequence=2, added=(self.entry,)))
        self.tap = await self.world.let_in(self.pair, "tap")
        assert await self.tap.subscribe("devices/#", "sites/#", "end") == [1, 1, 1]
        self.device = await self.world.let_in(self.world.device, "prod:d1")
        assert await self.device.subscribe("sites/#", "devices/prod/d1/#", "end") == [1, 1, 1]

    def may(self, policy: Policy, facts: Facts, action: Action, topic: str) -> bool:
        serial = self.world.device.serial
        who = Who(purpose=Purpose.DEVICE, name="prod:d1", serial=serial, client_id="prod:d1")
        return decide(policy, who, facts, action=action, topic=topic).allowed

    async def govern(self, policy: Policy, facts: Facts | None = None) -> None:
        await self.world.broker.govern(classes_of(policy, facts))

    async def told_by_device(self, topics: list[str]) -> set[str]:
        """Return which of its messages the device gets through."""
        for topic in topics:
            await self.device.publish(topic, b"told")
        return await self._heard(self.tap)

    async def told_to_device(self, topics: list[str]) -> set[str]:
        """Return which messages of the backend reach the device."""
        for topic in topics:
            await self.tap.publish(topic, b"told")
        return await self._heard(self.device)

    async def _heard(self, listener: MqttClient) -> set[str]:
        """Return all that arrives until a message that was sent after all others does."""
        self.rounds += 1
        body = b"%d" % self.rounds
        await self.tap.publish("end", body)
        heard: set[str] = set()
        while (message := await listener.receive()).body != body:
            heard.add(message.topic)
        return heard - {"end"}


@pytest.fixture
async def tapped(world: World) -> Tapped:
    found = Tapped(world)
    await found.start()
    return found


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    POLICY,
    FACTS,
    st.lists(TOPIC, min_size=4, max_size=8, unique=True),
    st.lists(FILTER, min_size=4, max_size=8, unique=True),
)
async def test_a_live_broker_and_the_evaluator_answer_alike(
    tapped: Tapped, policy: Policy, facts: Facts, topics: list[str], filters: list[str]
) -> None:
    await tapped.govern(policy, facts)

    told = await tapped.told_by_device(topics)
    assert told == {topic for topic in topics if tapped.may(policy, facts, Action.PUBLISH, topic)}
    granted = [code != REFUSED_SUBSCRIPTION for code in await tapped.device.subscribe(*filters)]
    assert granted == [tapped.may(policy, facts, Action.SUBSCRIBE, each) for each in filters]


async def test_a_changed_policy_counts_for_a_session_that_lives(tapped: Tapped) -> None:
    topics = ["sites/north/x", "sites/south/x", "devices/prod/d1/x"]
    deny = "[[deny]]\nname = 'd'\nsubscribe = ['sites/south/#']\npublish = ['sites/north/#']\n"
    changed = parse("[[allow]]\nname = 'a'\npublish = ['sites/#']\nsubscribe = ['sites/#']\n" + deny)

    await tapped.govern(changed)

    assert await tapped.told_by_device(topics) == {"sites/south/x"}
    assert await tapped.told_to_device(topics) == {"sites/north/x"}
    assert [session.name for session in await tapped.world.broker.sessions()].count("prod:d1") == 1


async def test_a_certificate_in_another_class_goes_on_with_other_topics(tapped: Tapped) -> None:
    nothing = GrantSet(purpose=Purpose.DEVICE)
    await tapped.world.broker.govern({1: nothing, NORTH_CLASS: grants_of(OPEN, {}), TAP_CLASS: TAP})
    assert await tapped.told_by_device(["sites/north"]) == set()

    entry = tapped.world.entry
    change = AllowlistChange(sequence=3, added=(replace(entry, access=NORTH_CLASS),), removed=(entry,))
    assert await tapped.world.broker.change(change) == ()

    assert await tapped.told_by_device(["sites/north"]) == {"sites/north"}


async def test_a_class_that_the_broker_was_not_told_of_has_the_protocols_topics_alone(
    tapped: Tapped,
) -> None:
    entry = tapped.world.entry
    change = AllowlistChange(sequence=3, added=(replace(entry, access=99),), removed=(entry,))
    await tapped.world.broker.change(change)

    device = tapped.device
    assert await device.subscribe("devices/prod/d1/x", "fleet/v1/prod/d1/notice") == [REFUSED_SUBSCRIPTION, 1]


async def test_a_backend_has_its_scope_and_none_of_a_devices_or_the_fleets_topics(tapped: Tapped) -> None:
    refused = [
        "fleet/v1/+/+/+/request",
        "$CONTROL/fleet/v1",
        "$fleet/guard/events",
        "#",
        "$share/g/devices/#",
    ]

    assert await tapped.tap.subscribe(*refused) == [REFUSED_SUBSCRIPTION] * len(refused)
    assert await tapped.world.is_refused(tapped.pair, "prod:d1")
    await tapped.world.let_in(tapped.pair, "tap.second")


async def test_a_backend_that_is_removed_is_cut_off(tapped: Tapped) -> None:
    (cut,) = await tapped.world.broker.change(AllowlistChange(sequence=3, removed=(tapped.entry,)))

    assert cut.name == "tap"
    await tapped.tap.wait_closed()
    assert await tapped.world.is_refused(tapped.pair, "tap")


async def test_the_first_decision_of_each_kind_is_told_once_for_a_session(tapped: Tapped) -> None:
    device = tapped.device
    decisions = tapped.world.broker.decisions()

    for topic in ["sites/a", "sites/a", "secret/a", "secret/a", "sites/b"]:
        await device.publish(topic, b"x")
    async with asyncio.timeout(10):
        told = [decision async for decision in first(decisions, until="sites/b")]

    mine = [each for each in told if each.name == "prod:d1" and each.action is Action.PUBLISH]
    assert [(each.topic, each.allowed) for each in mine] == [
        ("sites/a", True),
        ("secret/a", False),
        ("sites/b", True),
    ]


async def first(decisions: AsyncIterator[TopicDecision], *, until: str) -> AsyncIterator[TopicDecision]:
    async for decision in decisions:
        yield decision
        if decision.topic == until:
            return
