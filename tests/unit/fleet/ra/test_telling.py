"""People are told what they have to know: once, together, in time, and until it has reached them."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from device_agent.wire.identity import Identity
from fleet.core.delivery import DeliveryState
from fleet.core.matters import Matter, Severity
from fleet.core.notification import Change
from fleet.core.notification_rule import Escalation, QuietHours, Receiver
from fleet.core.station_rules import Shift
from fleet.errors import BadInputError, FleetError, NotFoundError, RefusedError, UnreachableError
from fleet.ra.telling import reading, trying
from fleet.ra.telling.delivering import deliver
from fleet.store import deliveries, notifications, owners
from fleet.store.deliveries import NotificationQuery
from fleet.store.owners import Owner
from tests.desk import Desk
from tests.telling import LOG, MAIL, amend, crowd, end_certificate_at, ending, entry, rule, told, trail


async def test_five_hundred_devices_that_end_together_are_one_message_and_one_all_clear(desk: Desk) -> None:
    people = told(desk, rule(Matter.LEAF_ENDS))
    await crowd(desk, 500, days=5)
    await people.all()

    (letter,) = people.letters()
    assert (letter.count, len(letter.items)) == (500, 100)
    assert {item.change for item in letter.items} == {Change.ARISES}
    assert letter.title == "[acme] warning: certificates of devices end (500)"
    assert "and 400 more: fleet notice show 1" in letter.text()

    await amend(desk.context, "UPDATE certificates SET not_after = '2031-01-01T00:00:00Z'")
    await people.all()
    assert [(each.count, each.is_over) for each in people.letters()] == [(500, False), (500, True)]


async def test_what_comes_nearer_is_told_at_each_threshold_once_and_its_end_as_an_all_clear(
    desk: Desk,
) -> None:
    people = told(desk, rule(Matter.LEAF_ENDS, thresholds=(timedelta(days=7), timedelta(days=1))))
    (device,) = await ending(desk, 1, days=8)

    heard = []
    for _ in range(18):
        await people.all()
        heard.append([item.change for letter in people.letters() for item in letter.items])
        people.forward(hours=12)
        if len(heard) == 16:
            await end_certificate_at(desk.context, device, desk.clock() + timedelta(days=90))

    assert heard[-1] == [Change.ARISES, Change.WORSENS, Change.CLEARS]
    assert [letter.severity for letter in people.letters()] == [
        Severity.WARNING,
        Severity.CRITICAL,
        Severity.INFO,
    ]
    assert [len(each) for each in heard] == sorted(len(each) for each in heard)


async def test_looking_again_tells_nothing_again(desk: Desk) -> None:
    people = told(desk, rule(Matter.LEAF_ENDS, Matter.BACKUP_OLD, Matter.CA_ENDS, Matter.DEVICE_ALARM))
    await ending(desk, 2, days=1)

    await people.all()
    first = len(people.letters())
    for _ in range(3):
        people.forward(minutes=20)
        await people.all()

    assert len(people.letters()) == first


async def test_what_is_gathered_waits_for_what_comes_with_it_unless_it_is_critical(desk: Desk) -> None:
    people = told(desk, rule(Matter.LEAF_ENDS, gather=timedelta(minutes=30)))
    (first,) = await ending(desk, 1, days=10)
    await people.all()
    assert not people.letters()

    people.forward(minutes=29)
    await people.all()
    assert not people.letters()
    people.forward(minutes=1)
    await people.all()
    assert len(people.letters()) == 1

    await end_certificate_at(desk.context, first, desk.clock() + timedelta(hours=3))
    await people.all()
    assert [letter.severity for letter in people.letters()] == [Severity.WARNING, Severity.CRITICAL]


async def test_quiet_hours_hold_back_what_can_wait(desk: Desk) -> None:
    night = QuietHours(shifts=(Shift.parse("mon-sun 13:00-20:00 Europe/Berlin"),))  # noon UTC is 14:00 there
    people = told(desk, rule(Matter.LEAF_ENDS, quiet=night))
    await ending(desk, 3, days=10)

    await people.all()
    assert not people.letters()
    people.forward(hours=6)
    await people.all()

    (letter,) = people.letters()
    assert letter.count == 3


async def test_owners_are_told_of_their_own_devices_and_of_no_others(desk: Desk) -> None:
    people = told(desk, rule(Matter.LEAF_ENDS, owners="mail"))
    devices = await ending(desk, 3, days=5)
    for name, addresses in {"ada": ("ada@example.org",), "bob": ("b@example.org", "c@example.org")}.items():
        owner = Owner(name=name, contacts=addresses, added_at=desk.clock())
        await desk.context.store.write(owners.save_owner, owner)
    await give(desk, devices[0], "ada")
    await give(desk, devices[1], "bob")

    await people.all()

    mails = [(letter.audience, address) for letter, address in people.carriers["mail"].letters]
    assert sorted(mails) == [("ada", "ada@example.org"), ("bob", "b@example.org"), ("bob", "c@example.org")]
    of_ada = next(letter for letter in people.letters("mail") if letter.audience == "ada")
    assert [item.subject for item in of_ada.items] == ["prod:d000"]
    assert [letter.count for letter in people.letters("log")] == [3]


async def give(desk: Desk, device: Identity, owner: str) -> None:
    sql = "UPDATE devices SET owner = ? WHERE domain = ? AND device_id = ?"
    await amend(desk.context, sql, owner, device.domain, device.device_id)


async def test_a_rule_of_one_domain_tells_nothing_of_another(desk: Desk) -> None:
    people = told(desk, rule(Matter.LEAF_ENDS, domains=frozenset({"lab"})))
    await ending(desk, 1, days=5)

    await people.all()

    assert not people.letters()


async def test_a_failing_receiver_is_tried_again_with_growing_pauses_and_gets_the_same_message(
    desk: Desk,
) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD))
    people.carriers["log"].fails = [UnreachableError("it hangs")] * 3
    people.forward(days=30)
    await people.look()

    waits = []
    while not people.letters():
        before = await people.deliver()
        (one,) = await people.deliveries()
        if one.state is DeliveryState.WAITING and before:
            waits.append(one.next_at - desk.clock())
            assert one.answer == "it hangs"
        people.forward(minutes=1)

    assert len(waits) == 3
    assert all(timedelta(seconds=14) <= wait <= timedelta(hours=1) for wait in waits)
    assert await people.states() == [DeliveryState.SENT]
    assert await people.deliver() == 0


async def test_what_nobody_takes_is_given_up_in_time_recorded_and_found_by_the_doctor(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD), give_up=timedelta(hours=2))
    people.carriers["log"].fails = [UnreachableError("no way")] * 1000
    people.forward(days=30)
    await people.look()
    for _ in range(60):
        await people.deliver()
        people.forward(minutes=5)

    (one,) = await people.deliveries()
    assert one.state is DeliveryState.DEAD
    assert one.attempts > 3
    (given_up,) = await trail(desk, "notification.undelivered")
    assert dict(given_up.details)["receiver"] == "log"
    (finding,) = await reading.channels(people.context)
    assert not finding.ok
    await reading.acknowledge(people.context, one.notification, actor="operator:ada", reason="known")
    assert all(found.ok for found in await reading.channels(people.context))


async def test_a_receiver_that_refuses_for_good_is_not_tried_again(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD, to=(LOG, MAIL)))
    people.carriers["mail"].fails = [RefusedError("550 no such user")]
    people.forward(days=30)
    await people.all()
    people.forward(days=1)
    await people.deliver()

    assert sorted(await people.states()) == [DeliveryState.DEAD, DeliveryState.SENT]
    assert not people.letters("mail")


async def test_a_fault_of_a_channel_ends_no_more_than_one_attempt(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD))
    people.carriers["log"].fails = [ZeroDivisionError("a secret")]  # type: ignore[list-item]  # no FleetError
    people.forward(days=30)
    await people.all()

    (one,) = await people.deliveries()
    assert (one.state, one.answer) == (DeliveryState.WAITING, "it failed: ZeroDivisionError")


async def test_what_was_under_way_at_a_crash_is_sent_once_more_under_the_same_id(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD))
    people.forward(days=30)
    await people.look()

    class CrashError(BaseException):
        pass

    carrier = people.carriers["log"]
    carry = carrier.carry

    async def crash(letter, address):  # type: ignore[no-untyped-def]  # as MemoryCarrier.carry
        await carry(letter, address)
        raise CrashError

    carrier.carry = crash  # type: ignore[method-assign]  # the process dies between sending and recording
    with pytest.raises(CrashError):
        await people.deliver()
    carrier.carry = carry  # type: ignore[method-assign]  # as above
    assert await people.states() == [DeliveryState.SENDING]
    assert await people.deliver() == 0

    await people.context.store.write(deliveries.take_up, desk.clock())
    await people.deliver()

    first, second = people.letters()
    assert first == second
    assert await people.states() == [DeliveryState.SENT]


async def test_a_channel_that_is_gone_takes_its_deliveries_with_it(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD, to=(LOG, MAIL)))
    people.carriers["mail"].fails = [UnreachableError("x")]
    people.forward(days=30)
    await people.all()
    del people.carriers["mail"]

    await people.look()

    by_channel = {one.receiver.channel: one.state for one in await people.deliveries()}
    assert by_channel == {"log": DeliveryState.SENT, "mail": DeliveryState.DEAD}


async def test_whoever_does_not_answer_is_followed_by_the_next_until_somebody_has_seen_it(desk: Desk) -> None:
    steps = (
        Escalation(after=timedelta(hours=1), to=(MAIL,)),
        Escalation(after=timedelta(hours=2), to=(replace(MAIL, address="boss@example.org"),)),
    )
    people = told(desk, rule(Matter.BACKUP_OLD, escalations=steps))
    people.forward(days=30)
    await people.all()
    people.forward(minutes=61)
    await people.all()
    assert [address for _, address in people.carriers["mail"].letters] == ["ops@example.org"]

    (one, *_) = await people.deliveries()
    await reading.acknowledge(people.context, one.notification, actor="operator:ada", reason="")
    people.forward(days=2)
    await people.all()

    assert [address for _, address in people.carriers["mail"].letters] == ["ops@example.org"]
    (seen,) = await trail(desk, "notification.acknowledged")
    assert seen.actor == "operator:ada"


async def test_an_owner_s_copy_is_not_escalated_beside_everybody_s(desk: Desk) -> None:
    boss = Receiver(channel="mail", address="boss@example.org")
    steps = (Escalation(after=timedelta(hours=1), to=(boss,)),)
    people = told(desk, rule(Matter.LEAF_ENDS, owners="mail", escalations=steps))
    (device,) = await ending(desk, 1, days=5)
    owner = Owner(name="ada", contacts=("ada@example.org",), added_at=desk.clock())
    await desk.context.store.write(owners.save_owner, owner)
    await give(desk, device, "ada")
    await people.all()
    people.forward(hours=2)
    await people.all()

    assert [address for _, address in people.carriers["mail"].letters] == ["ada@example.org", boss.address]


async def test_two_that_empty_the_outbox_at_once_send_each_message_once(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD))
    people.forward(days=30)
    await people.look()

    await asyncio.gather(*(people.deliver() for _ in range(4)))

    assert len(people.letters()) == 1


async def test_what_is_over_is_escalated_to_nobody(desk: Desk) -> None:
    steps = (Escalation(after=timedelta(hours=1), to=(MAIL,)),)
    people = told(desk, rule(Matter.BACKUP_OLD, escalations=steps))
    people.forward(days=30)
    await people.all()
    await entry(desk, "backup.made")
    people.forward(minutes=10)
    await people.all()
    people.forward(days=2)
    await people.all()

    assert not people.letters("mail")


async def test_a_rule_that_is_gone_leaves_nothing_to_be_told(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD, gather=timedelta(hours=1)))
    people.forward(days=30)
    await people.all()
    people = told(desk, rule(Matter.CA_ENDS))
    people.forward(hours=2)
    await people.all()

    assert not await desk.context.store.read(notifications.gathered, None)
    people = told(desk, rule(Matter.BACKUP_OLD))
    await people.all()
    assert len(people.letters()) == 1


async def test_old_notifications_are_let_go_and_what_still_waits_is_kept(desk: Desk) -> None:
    people = told(
        desk, rule(Matter.BACKUP_OLD, to=(LOG, MAIL)), keep=timedelta(days=60), give_up=timedelta(900)
    )
    people.carriers["mail"].fails = [UnreachableError("x")] * 99
    people.forward(days=30)
    await people.all()
    people.forward(days=70)
    await people.look()
    assert len(await people.deliveries()) == 2
    people.carriers["mail"].fails = []
    await people.deliver()
    people.forward(minutes=5)
    await people.look()

    assert not await people.deliveries()


async def test_a_test_reaches_everybody_of_a_rule_and_says_who_was_not_reached(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD, to=(LOG, MAIL)))
    people.carriers["mail"].fails = [BadInputError("the password file is not there", hint="make it")]

    trials = await trying.send_test(people.context, "all", actor="operator:ada")

    assert [(str(one.receiver), one.arrived, one.hint) for one in trials] == [
        ("log", True, ""),
        ("mail:ops@example.org", False, "make it"),
    ]
    (letter,) = people.letters()
    assert letter.matter is None
    (tested,) = await trail(desk, "notification.tested")
    assert tested.details == (("log", "arrived"), ("mail:ops@example.org", "the password file is not there"))
    with pytest.raises(NotFoundError):
        await trying.send_test(people.context, "nothing", actor="operator:ada")


async def test_the_doctor_names_a_channel_that_cannot_work(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD))
    people.carriers["mail"].wrong = FleetError("smtp.password is not there", hint="make it")

    (found,) = await reading.channels(people.context)

    assert (found.ok, found.fix) == (False, "make it")
    assert "mail" in found.text


async def test_a_list_of_notifications_is_filtered_and_paged(desk: Desk) -> None:
    people = told(desk, rule(Matter.BACKUP_OLD), rule(Matter.LEAF_ENDS, name="leaves"))
    await ending(desk, 1, days=3)
    people.forward(days=30)
    await people.all()

    async def numbers(**query: object) -> list[int]:
        wanted = NotificationQuery(**query)  # type: ignore[arg-type]  # a test names fields
        return [one.row.number for one in await reading.list_notifications(people.context, wanted)]

    assert await numbers() == [2, 1]
    assert await numbers(limit=1) == [2]
    assert await numbers(before=2) == [1]
    assert len(await numbers(rule="leaves")) == 1
    assert await numbers(severity=Severity.CRITICAL) == await numbers(matter=Matter.LEAF_ENDS)
    assert await numbers(state=DeliveryState.DEAD) == []
    await reading.acknowledge(people.context, 1, actor="operator:ada", reason="")
    assert (await numbers(is_acked=True), await numbers(is_acked=False)) == ([1], [2])


async def test_one_channel_that_is_empty_costs_one_look(desk: Desk) -> None:
    people = told(desk)

    await people.all()

    assert await deliver(people.context, "log") == 0
    assert [found.ok for found in await reading.channels(people.context)] == [True]
