"""When the server wants certificates renewed: planned once, told everywhere, moved after an outage."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from device_agent.wire.identity import Identity
from device_agent.wire.pace import latest
from device_agent.wire.replies import Confirmed, Issued, Status
from device_agent.wire.requests import Confirm, StatusQuery
from fleet.core.profile import DEFAULT_PROFILES
from fleet.core.windows import choices, hour_of
from fleet.model import Purpose
from fleet.ra.context import Context
from fleet.ra.meter import OK
from fleet.ra.requests.answer import answer
from fleet.ra.requests.draining import Pulse, look_after_windows, make_up
from fleet.store.audit import AuditQuery, search
from fleet.store.certificates import load_certificate
from fleet.store.notices import EarlyRenewal, count_wanted, make_due, want_notice
from fleet.store.windows import count_anew, planned_in
from tests.desk import Desk
from tests.homes import FleetHome

DAY = timedelta(days=1)
PROFILE = DEFAULT_PROFILES[Purpose.DEVICE]


@pytest.fixture(autouse=True)
def the_home_is_new(desk: Desk, fleet_home: FleetHome) -> None:
    desk.clock.now = fleet_home.made_at


async def active(desk: Desk, device_id: str) -> Issued:
    _, issued = await desk.enrolled(device_id)
    reply = await answer(desk.context, desk.speaking(issued, device_id=device_id), Confirm(id="1"))
    assert isinstance(reply, Confirmed), reply
    return issued


async def told(desk: Desk, issued: Issued, device_id: str) -> datetime:
    """Return what the server answers to a device that asks when to renew."""
    reply = await answer(desk.context, desk.speaking(issued, device_id=device_id), StatusQuery(id="1"))
    assert isinstance(reply, Status)
    assert reply.renew_after is not None
    return reply.renew_after


def window_of(issued: Issued, desk: Desk) -> tuple[datetime, ...]:
    begins = desk.clock.now.replace(microsecond=0) - PROFILE.backdate
    window = PROFILE.window(begins, begins + PROFILE.backdate + PROFILE.lifetime)
    return choices(window, issued.serial)


async def test_a_moment_is_chosen_once_and_every_answer_tells_it(desk: Desk) -> None:
    issued = await active(desk, "d1")
    assert issued.renew_after in window_of(issued, desk)
    assert await told(desk, issued, "d1") == issued.renew_after
    row = await desk.context.store.read(load_certificate, issued.serial)
    assert row is not None
    assert row.signed is not None
    assert row.signed.renew_after == issued.renew_after
    planned = await desk.context.store.read(planned_in, (issued.renew_after,))
    assert planned == {hour_of(issued.renew_after): 1}


async def test_the_hours_are_counted_anew_as_they_stand(desk: Desk) -> None:
    issued = await active(desk, "d1")
    await desk.revoke("d1")
    await desk.context.store.write(count_anew, desk.clock())
    assert await desk.context.store.read(planned_in, (issued.renew_after,)) == {}


async def missed(desk: Desk, count: int) -> dict[str, Issued]:
    """Return devices whose renewals an outage of two days has held up."""
    found = {f"d{number}": await active(desk, f"d{number}") for number in range(count)}
    moment = min(one.renew_after for one in found.values())
    desk.clock.now = moment - timedelta(hours=1)
    await look_after_windows(desk.context, Pulse())
    desk.clock.now = max(one.renew_after for one in found.values()) + DAY
    return found


def at_pace(desk: Desk, a_second: int) -> Context:
    """Return the context with another pace."""
    config = desk.context.config
    windows = replace(config.windows, a_second=a_second)
    desk.context.in_force.replace(config=replace(config, windows=windows))
    return desk.context


async def test_what_an_outage_has_held_up_is_spread_at_the_stated_pace_and_told(desk: Desk) -> None:
    found, context = await missed(desk, 4), at_pace(desk, 1)
    await look_after_windows(context, Pulse())
    now = desk.clock().replace(microsecond=0)
    moments = sorted([await told(desk, issued, name) for name, issued in found.items()])
    assert moments == [now + timedelta(seconds=1 + place) for place in range(4)]
    assert await context.store.read(count_wanted, None) == 4
    (found_entry,) = await context.store.read(search, AuditQuery(action="renewals.moved"))
    assert dict(found_entry.entry.details)["devices"] == "4"


async def test_after_a_restart_nothing_is_moved_twice(desk: Desk) -> None:
    found = await missed(desk, 2)
    await look_after_windows(desk.context, Pulse())
    moments = [await told(desk, issued, name) for name, issued in found.items()]
    await look_after_windows(desk.context, Pulse())
    assert [await told(desk, issued, name) for name, issued in found.items()] == moments


async def test_a_pause_shorter_than_an_outage_moves_nothing(desk: Desk) -> None:
    issued = await active(desk, "d1")
    desk.clock.now = issued.renew_after - timedelta(minutes=5)
    await look_after_windows(desk.context, Pulse())
    desk.clock.forward(timedelta(minutes=30))
    await look_after_windows(desk.context, Pulse())
    assert await told(desk, issued, "d1") == issued.renew_after


async def test_who_was_late_before_the_outage_keeps_its_moment(desk: Desk) -> None:
    issued = await active(desk, "d1")
    desk.clock.now = issued.renew_after + DAY
    assert await make_up(desk.context, since=desk.clock() - timedelta(hours=2)) == 0
    assert await told(desk, issued, "d1") == issued.renew_after


async def test_renewals_that_were_made_due_early_are_moved_too(desk: Desk) -> None:
    issued = await active(desk, "d1")
    early = EarlyRenewal(serial=issued.serial, renew_after=desk.clock() + DAY, issuer="ca")
    await desk.context.store.write(make_due, [early])
    await desk.context.store.write(want_notice, Identity(domain="prod", device_id="d1"))
    desk.clock.forward(3 * DAY)
    assert await make_up(desk.context, since=desk.clock() - 2.5 * DAY) == 1
    assert await told(desk, issued, "d1") > desk.clock()


async def test_nobody_is_moved_beyond_what_is_safe(desk: Desk) -> None:
    found, context = await missed(desk, 3), at_pace(desk, 1)
    row = await context.store.read(load_certificate, found["d0"].serial)
    assert row is not None
    assert row.signed is not None
    safe = latest(row.signed.not_before, row.signed.not_after)
    desk.clock.now = safe - timedelta(hours=3)
    await make_up(context, since=safe - 60 * DAY)
    assert all([await told(desk, issued, name) <= safe for name, issued in found.items()])


async def test_a_ca_that_does_not_sign_is_an_outage_until_it_does(desk: Desk) -> None:
    pulse, meter = Pulse(), desk.context.meter
    assert pulse.works(desk.context)
    meter.answered("renew", "unavailable", 0.1)
    assert not pulse.works(desk.context)
    assert not pulse.works(desk.context), "nothing was asked since: nothing is better"
    meter.answered("renew", "unavailable", 0.1)
    meter.answered("renew", OK, 0.1)
    assert pulse.works(desk.context)


async def test_a_broker_that_carries_nothing_is_an_outage(desk: Desk) -> None:
    assert not Pulse().works(replace(desk.context, answering=lambda: False))
