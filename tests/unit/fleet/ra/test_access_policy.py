"""The access policy in use: put in force at brokers, tried on recorded traffic, explained, taken back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.wire.identity import Identity
from fleet.access_file import DEFAULT_TEXT
from fleet.core import access
from fleet.core.access import Who
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.grants import Action, TopicDecision
from fleet.model import Purpose, Role
from fleet.ports import Transaction
from fleet.ra.acts import deciding
from fleet.ra.acts.guard import ProposedError
from fleet.ra.people.operators import add_operator
from fleet.ra.performers import PERFORMERS
from fleet.ra.requests.access_policy import (
    access_in_force,
    apply_access,
    check_access,
    history,
    rollback_access,
)
from fleet.ra.requests.access_trial import Question, explain_access, try_access
from fleet.ra.requests.access_users import After, clients
from fleet.ra.requests.decisions import keep_decisions
from fleet.store import access_classes, attributes, audit
from fleet.store.audit import AuditQuery
from fleet.store.topic_decisions import MOST_OF_ONE, Sighting, decisions_after, note_decisions
from tests.desk import Desk, at_desk
from tests.homes import FleetHome

ADA = "operator:ada"
D1, D2 = Identity(domain="prod", device_id="d1"), Identity(domain="prod", device_id="d2")
OWN = DEFAULT_TEXT.removeprefix(DEFAULT_TEXT[: DEFAULT_TEXT.index("[[allow]]")])
BERLIN = (
    OWN
    + """
[[allow]]
name = "Berlin's orders"
when = { attr.site = "berlin" }
subscribe = ["sites/{attr.site}/orders/#"]
"""
)
ASSURED = (
    OWN
    + """
[[allow]]
name = "with a code at least"
when = { assurance = "code" }
subscribe = ["coded/#"]
"""
)
SILENT = (
    OWN
    + """
[[deny]]
name = "no raw data"
publish = ["devices/{domain}/{id}/raw/#"]
"""
)


@pytest.fixture
async def desk(fleet_home: FleetHome, tmp_path: Path) -> AsyncIterator[Desk]:
    async with at_desk(fleet_home, tmp_path) as opened:
        (tmp_path / "home").mkdir()
        home = replace(opened.context.home, root=tmp_path / "home")
        yield replace(opened, context=replace(opened.context, home=home))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    identity: Identity
    site: str


async def place(tx: Transaction, placing: Placing) -> int | None:
    await attributes.put_attributes(tx, placing.identity, {"site": placing.site}, source="operator")
    return await access_classes.refresh(tx, [placing.identity])


async def site(desk: Desk, identity: Identity, value: str) -> int | None:
    """Give a device an attribute, as operators do, and return what brokers had to reach."""
    sequence = await desk.context.store.write(place, Placing(identity=identity, site=value))
    if sequence is not None:
        await desk.context.broker.reach(sequence)
    return sequence


def may_hear(desk: Desk, serial: str, topic: str) -> bool:
    """Ask the broker's own list and rules."""
    entry = desk.broker.listed[serial]
    who = Who(
        purpose=Purpose.DEVICE, name=entry.name, serial=serial, client_id=entry.name, access=entry.access
    )
    return access.may_subscribe(who, topic, classes=desk.broker.classes)


async def refusals(desk: Desk) -> int:
    return len(await desk.context.store.read(audit.search, AuditQuery(action="access.refused")))


async def decided(desk: Desk, *decisions: TopicDecision) -> None:
    sighting = Sighting(counts=dict.fromkeys(decisions, 1), at=desk.clock())
    await desk.context.store.write(note_decisions, sighting)


def publishes(topic: str, *, name: str = "prod:d1", allowed: bool = True) -> TopicDecision:
    return TopicDecision(name=name, action=Action.PUBLISH, topic=topic, allowed=allowed)


async def test_a_policy_reaches_brokers_with_the_devices_that_it_tells_apart(desk: Desk) -> None:
    _, first = await desk.enrolled("d1")
    _, second = await desk.enrolled("d2")
    await site(desk, D1, "berlin")

    applied = await apply_access(desk.context, BERLIN, actor=ADA)

    assert (applied.number, applied.changed, applied.everywhere) == (1, True, True)
    assert may_hear(desk, first.serial, "sites/berlin/orders/#")
    assert not may_hear(desk, second.serial, "sites/berlin/orders/#")
    assert may_hear(desk, second.serial, "devices/prod/d2/#")


async def test_who_is_admitted_is_listed_with_his_users_page_by_page(desk: Desk) -> None:
    _, first = await desk.enrolled("d1")
    desk.clock.forward(timedelta(days=1))  # serials of one hour have no order
    _, second = await desk.enrolled("d2")
    await desk.enrolled("d3")
    await desk.revoke("d3")
    await site(desk, D1, "berlin")
    await apply_access(desk.context, BERLIN + 'users = ["{domain}:{id}"]\nroles = ["reader"]\n', actor=ADA)
    (one,) = await clients(desk.context, After(limit=1))
    (two,) = await clients(desk.context, After(serial=one.entry.serial))
    assert (one.entry.serial, one.users, one.roles) == (first.serial, ("prod:d1",), ("reader",))
    assert (two.entry.serial, two.users, two.roles) == (second.serial, (), ())


async def test_a_changed_attribute_reaches_brokers_without_a_new_certificate(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    await apply_access(desk.context, BERLIN, actor=ADA)
    session = desk.broker.connect(issued.serial)

    assert await site(desk, D1, "berlin") is not None
    assert may_hear(desk, issued.serial, "sites/berlin/orders/#")
    await site(desk, D1, "paris")
    assert not may_hear(desk, issued.serial, "sites/berlin/orders/#")
    assert desk.broker.live == [session]
    assert await site(desk, D1, "paris") is None


async def test_a_certificate_that_is_issued_later_stands_in_its_class_at_once(desk: Desk) -> None:
    await apply_access(desk.context, ASSURED, actor=ADA)

    _, issued = await desk.enrolled("d1")  # by a one-time code

    assert may_hear(desk, issued.serial, "coded/x")
    assert "coded/#" in issued.broker.subscribe


async def test_what_a_device_says_of_itself_opens_nothing(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    await apply_access(desk.context, BERLIN, actor=ADA)

    await desk.context.store.write(_say, D1)

    assert not may_hear(desk, issued.serial, "sites/berlin/orders/#")


@pytest.mark.parametrize("text", ["[[allow]]\nname =", "[[deny]]\nname = 'd'\npublish = ['x']\n"])
async def test_a_policy_with_a_fault_changes_nothing_and_is_on_record(desk: Desk, text: str) -> None:
    before = desk.broker.classes
    with pytest.raises(BadInputError, match=r"^access\.toml:\d+: "):
        await apply_access(desk.context, text, actor=ADA)

    assert await access_in_force(desk.context) is None
    assert desk.broker.classes == before
    assert await refusals(desk) == 1


async def test_the_home_keeps_the_policy_that_was_handed_in(desk: Desk) -> None:
    await apply_access(desk.context, BERLIN, actor=ADA)

    assert desk.context.home.access.read_text() == BERLIN
    assert not (await apply_access(desk.context, "", actor=ADA)).changed


async def test_each_rule_tells_how_many_certificates_it_is_about(desk: Desk) -> None:
    await desk.enrolled("d1")
    await desk.enrolled("d2")
    await site(desk, D1, "berlin")

    checked = await check_access(desk.context, BERLIN)

    assert [(rule.name, rule.certificates) for rule in checked.rules] == [
        ("own topics", 2),
        ("Berlin's orders", 1),
    ]


async def test_an_earlier_policy_comes_back_as_the_newest(desk: Desk) -> None:
    await apply_access(desk.context, BERLIN, actor=ADA)
    await apply_access(desk.context, SILENT, actor=ADA)

    assert (await rollback_access(desk.context, 1, actor=ADA)).number == 3

    assert [each.number for each in await history(desk.context)] == [3, 2, 1]
    assert desk.context.home.access.read_text() == BERLIN
    assert (await rollback_access(desk.context, 0, actor=ADA)).number == 4
    with pytest.raises(RefusedError, match="is what is in force"):
        await rollback_access(desk.context, 0, actor=ADA)
    with pytest.raises(NotFoundError):
        await rollback_access(desk.context, 9, actor=ADA)


async def test_a_policy_that_needs_a_second_operator_waits_for_him_and_is_then_in_force(
    fleet_home: FleetHome, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    toml = '[fleet]\nname = "acme"\n[domains.prod]\n[acts]\nalways = ["policy"]\n'
    async with at_desk(fleet_home, tmp_path, toml=toml) as opened:
        home = replace(opened.context.home, root=tmp_path / "home")
        context = replace(opened.context, home=home)
        for name in ("ada", "bob"):
            await add_operator(context, name, role=Role.SECURITY, actor="operator:local")
        with pytest.raises(ProposedError) as proposed:
            await apply_access(context, SILENT, actor=ADA)
        assert await access_in_force(context) is None
        waiting = await deciding.show_proposal(context, proposed.value.proposal)
        describe = PERFORMERS[waiting.kind].describe
        assert describe is not None
        shown = (await describe(context, waiting)).splitlines()
        assert shown[0].endswith(hashlib.sha256(SILENT.encode()).hexdigest())
        assert {f"+{line}" for line in SILENT.splitlines()} - set(shown) <= {
            f"+{line}" for line in DEFAULT_TEXT.splitlines()
        }

        await deciding.approve(context, proposed.value.proposal, actor="operator:bob", performers=PERFORMERS)

        record = await access_in_force(context)
        assert record is not None
        assert (record.text, record.actor) == (SILENT, ADA)


async def test_a_broker_that_is_away_follows_when_it_is_back(desk: Desk) -> None:
    _, issued = await desk.enrolled("d1")
    await site(desk, D1, "berlin")
    desk.broker.fails = True

    assert not (await apply_access(desk.context, BERLIN, actor=ADA)).everywhere

    desk.broker.fails = False
    await desk.context.broker.synchronise()
    assert may_hear(desk, issued.serial, "sites/berlin/orders/#")


async def test_a_trial_tells_which_traffic_on_record_would_be_decided_otherwise(desk: Desk) -> None:
    await desk.enrolled("d1")
    raw, state = "devices/prod/d1/raw/1", "devices/prod/d1/state"
    foreign = publishes("devices/prod/d2/x", allowed=False)
    await decided(desk, publishes(raw), publishes(state), foreign, publishes("x", name="prod:gone"))

    trial = await try_access(desk.context, SILENT)

    assert (trial.decisions, trial.different) == (3, 1)
    (difference,) = trial.differences
    assert difference.kept.decision == publishes(raw)
    assert (difference.before.allowed, difference.after.allowed) == (True, False)
    assert difference.after.rule is not None
    assert difference.after.rule.name == "no raw data"
    assert await access_in_force(desk.context) is None


async def test_an_explanation_names_the_rule_and_what_is_lacking(desk: Desk) -> None:
    await desk.enrolled("d1")
    await apply_access(desk.context, BERLIN, actor=ADA)

    own = await explain_access(desk.context, asking("devices/prod/d1/x"))
    orders = await explain_access(desk.context, asking("sites/berlin/orders/1"))
    await site(desk, D1, "berlin")
    in_berlin = await explain_access(desk.context, asking("sites/berlin/orders/1"))

    assert (own.admitted, own.decided.allowed) == (True, True)
    assert not orders.decided.allowed
    assert [(rule.name, unmet) for rule, unmet in orders.lacking] == [
        ("Berlin's orders", ("attr.site = berlin",))
    ]
    assert in_berlin.decided.allowed
    assert in_berlin.facts == {"attr.site": frozenset({"berlin"})}


async def test_a_device_that_is_shut_out_is_told_so(desk: Desk) -> None:
    await desk.enrolled("d1")
    await desk.revoke("d1")

    assert not (await explain_access(desk.context, asking("devices/prod/d1/x"))).admitted
    with pytest.raises(NotFoundError):
        await explain_access(desk.context, replace(asking("x"), identity=D2))


def asking(topic: str) -> Question:
    return Question(identity=D1, action=Action.SUBSCRIBE, topic=topic)


async def test_of_one_name_so_many_decisions_are_kept_and_the_newest_stay(desk: Desk) -> None:
    await decided(desk, publishes("devices/prod/d2/first", name="prod:d2"))
    await decided(desk, *(publishes(f"devices/prod/d1/{number}") for number in range(MOST_OF_ONE)))
    desk.clock.forward(timedelta(minutes=1))
    await decided(desk, publishes("devices/prod/d1/new"), publishes("devices/prod/d1/7"))

    kept = await desk.context.store.read(decisions_after, ("", "", "", 0))

    topics = {each.decision.topic: each.times for each in kept}
    assert len(topics) == MOST_OF_ONE + 1
    assert topics["devices/prod/d1/7"] == 2
    assert {"devices/prod/d2/first", "devices/prod/d1/new"} <= topics.keys()


async def test_decisions_of_a_broker_are_gathered_into_one_commit(desk: Desk) -> None:
    telling = Telling([publishes("a"), publishes("a"), *(publishes(f"b/{number}") for number in range(499))])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keep_decisions(desk.context, telling))
        await telling.asked_again.wait()
        task.cancel()

    kept = await desk.context.store.read(decisions_after, ("", "", "", 0))
    assert {each.decision.topic: each.times for each in kept}["a"] == 2


class Telling:
    """A broker that tells some decisions; it notes when somebody comes back for more of them."""

    def __init__(self, decisions: list[TopicDecision]) -> None:
        self.left = decisions
        self.asked_again = asyncio.Event()

    async def decisions(self) -> AsyncIterator[TopicDecision]:
        while self.left:
            yield self.left.pop(0)
        self.asked_again.set()
        await asyncio.Event().wait()


async def _say(tx: Transaction, identity: Identity) -> None:
    await attributes.put_attributes(tx, identity, {"site": "berlin"}, source="template")
    await access_classes.refresh(tx, [identity])
